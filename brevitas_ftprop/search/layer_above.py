"""The layer above a quantizer: from its output to the next quantizers, or to the loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from .flip_changes import flip_changes
from .loss_curvature import loss_curvature
from .recording import Node, NotRepeatableError, Recording, Value
from .replay import run, run_by_row, why_not_again
from .squared_backward import check_single_ways, squared_backward
from .unit_call import UnitCall
from .values import Values


class LayerAbove:
    """What a quantizer's output does to the layer losses above it, for any values of that output.

    The loss above is ``L(h) = Σ_j ℓ_j(z_j(h))`` over all units of the next quantizers, with targets
    and weights that these have been given in this backward pass, and the training's own loss where
    ``h`` reaches it without meeting a quantizer. Weights, statistics of batch norms, dropout masks
    and what comes by other ways (the other branch of a residual block, a mean over the batch) are
    as they were in the forward pass; nothing of the model is called or changed.

    Args:
        call: the quantizer's call, in the backward pass, when its gradient has come.

    Raises:
        NotRepeatableError: if nothing is known of what the output does, or it does something that
            cannot be computed again; the sentence says what.
    """

    def __init__(self, call: UnitCall):
        self.call, self.source = call, call.value
        nodes = Recording.after(call.value)
        reached = [call.value]
        for node in nodes:
            reached += [output for output in node.outputs if output is not None]
        self.readers: list[tuple[UnitCall, Value]] = [
            (reader, value) for value in reached for reader in value.readers if reader.is_reached
        ]
        # What forward let go of, as a statistic for a buffer, is not what is differentiated.
        self._scalars = [
            value
            for value in reached
            if value.is_scalar and not value.is_choice and value.tensor() is not None
        ]
        self._last = tuple(at for at, value in enumerate(self._scalars) if value.is_last)
        if not self.readers and not self._scalars:
            raise NotRepeatableError("neither a quantizer nor a loss was seen behind it")
        self._reached = nodes
        self.take_losses(self._last)
        for call, _ in self.readers:
            call.check_rule()
        for node in self.nodes:
            reason = why_not_again(node)
            if reason is not None:
                raise NotRepeatableError(reason)

    @property
    def reaches_a_scalar(self) -> bool:
        """Whether the training's own loss may be above."""
        return bool(self._scalars)

    def take_losses(self, which: Iterable[int]) -> None:
        """Count some of the scalars that the output reaches as the loss, by their order."""
        self._losses = [self._scalars[each] for each in which]
        self.nodes, self._by_row = _leading_to(self.readers, self._losses, self._reached)

    def losses(self, h: Tensor) -> Tensor:
        """Loss above of each row for another output.

        Args:
            h: of the output's shape, the batch in front.

        Returns:
            Shape (N,); a constant of the loss in equal shares.
        """
        values, total = self._again(h), h.new_zeros(len(h), dtype=_at_least_float32(h))
        with _computing(h):
            for call, value in self.readers:
                total = total + call.losses(values[id(value)]).flatten(1).sum(1)
        for value in self._losses:
            total = total + values[id(value)]
        return total

    def _again(self, h: Tensor) -> dict[int, Tensor]:
        """What is computed of an output, by identity: inputs of the readers, losses of rows."""
        values, rows = {id(self.source): h}, h.shape[0]
        with _computing(h):
            for node in self._by_rows():
                results = run_by_row(node, values, rows) if _is_scalar(node) else run(node, values)
                _keep(node, results, values)
        if any(values[id(value)].shape[:1] != (rows,) for _, value in self.readers):
            raise NotRepeatableError("the batch's rows are mixed before a quantizer")
        return values

    def gradient(self, h: Tensor) -> Tensor:
        """Gradient of the loss above, as autograd computes it of what was recorded.

        Unlike in :meth:`losses`, batch norms take the statistics of ``h``, as in training.
        """
        h = h.detach().requires_grad_()
        values = {id(self.source): h}
        with torch.enable_grad(), _computing(h):
            for node in self.nodes:
                _keep(node, run(node, values, live=True), values)
            totals = [_passed(call, value, values[id(value)]) for call, value in self.readers]
            totals += [values[id(value)] for value in self._losses]
            total = torch.stack([each.double() for each in totals]).sum()
        if not total.requires_grad:
            # What stands between has no gradient.
            return torch.zeros_like(h)
        (gradient,) = torch.autograd.grad(total, h, materialize_grads=True)
        return gradient

    def curvature(self, h: Tensor) -> Tensor:
        """``Σ_j L″_j·(∂z_j/∂h_i)²`` of each unit: the second derivative of the loss above by h_i.

        Exact where the layer is linear in ``h``, but for selections such as those of a ReLU or a
        maximum, comparisons, and what is detached, which are those made at ``h``. Of the training's
        own loss, whose rows' logits are not separate, it is ``Σ_jk (∂z_j/∂h_i)·H_jk·(∂z_k/∂h_i)``.

        Raises:
            NotRepeatableError: for operators that are not linear, and where two ways from a unit
                meet again before the next quantizer.
        """
        values = self._values(h)
        with _computing(h):
            squares: dict[int, Tensor] = {}
            passed = [each for each in self.readers if not each[1].is_choice]
            for call, value in passed:
                curvature = call.curvatures(values[id(value)])
                _add(squares, id(value), curvature.to(_at_least_float32(h)))
            nodes = _passed_by_gradients(_leading_to(passed, [], self.nodes)[0])
            depends = check_single_ways(nodes, id(self.source))
            for node in reversed(nodes):
                above = [squares.pop(id(output), None) for output in node.outputs]
                if any(each is not None for each in above):
                    _add(squares, *squared_backward(node, above, depends, values))
            if self._losses:
                tail = _passed_by_gradients(_leading_to([], self._losses, self._by_rows())[0])
                more = loss_curvature(tail, id(self.source), self._losses, values)
                _add(squares, id(self.source), more)
        found = squares.get(id(self.source))
        # What stands between has no gradient.
        return torch.zeros_like(h, dtype=_at_least_float32(h)) if found is None else found

    def flip_changes(self, h: Tensor, units: Tensor, *, memory: int) -> Tensor:
        """Exact change of the loss above when one unit's output changes its sign.

        Args:
            h: outputs, shape (N, ...).
            units: which ones, as indices into ``h.flatten()``.
            memory: bytes that the temporaries of one chunk of flips may take, beside some tensors
                of the size of the layer's own.

        Returns:
            The change for each of ``units``, as if it were the only one.

        Raises:
            NotRepeatableError: for operators whose outputs are not known to be local, and where two
                ways from a unit meet.
            ValueError: if one flip takes more memory.
        """
        to_readers, _ = _leading_to(self.readers, [], self.nodes)
        to_losses, _ = _leading_to([], self._losses, self._by_rows())
        with _computing(h):
            return flip_changes(
                id(self.source),
                self.readers,
                to_readers,
                self._losses,
                to_losses,
                self._values(h),
                units,
                memory,
            )

    def explains(self, losses: tuple[int, ...], h: Tensor, grad: Tensor) -> bool:
        """Whether the gradient that came is that of some of the scalars, which are then taken."""
        self.take_losses(losses)
        return self._agree(self.gradient(h), grad)

    def explained(self, h: Tensor, grad: Tensor) -> tuple[int, ...]:
        """Which scalars have to be taken for the loss, so that the gradient that came is explained.

        All of which nothing is computed, or one: others may have been computed to be looked at.

        Raises:
            NotRepeatableError: if none does, or the loss above is not known row by row.
        """
        singles = ((each,) for each in range(len(self._scalars)) if (each,) != self._last)
        for choice in (self._last, *singles):
            if self.explains(choice, h, grad):
                break
        else:
            # A cause of it, where the quantizers behind show one.
            self.take_losses(())
            self._check_it_gives_again_what_it_gave(h)
            raise NotRepeatableError(
                "its gradient is not that of what was recorded behind it (a function of one's own, "
                "a compiled layer, or several losses)"
            )
        self._check_it_gives_again_what_it_gave(h)
        # As many losses in one tensor as the batch has rows would be taken for the rows'.
        if any(
            node.name == "stack" and not any(each.shape for each in node.refs)
            for node in self.nodes
        ):
            raise NotRepeatableError(
                "the loss is a stack of several, and no sum over the batch's rows"
            )
        before, other = self.losses(h), h.clone()
        other[:1] = -other[:1]
        rounding = 1e-6 * float(before.abs().amax())
        if not torch.allclose(self.losses(other)[1:], before[1:], rtol=1e-3, atol=rounding):
            raise NotRepeatableError("rows of the batch depend on one another")
        return choice

    def _check_it_gives_again_what_it_gave(self, h: Tensor) -> None:
        values = self._again(h)
        pairs = [(values[id(value)], call.saw()) for call, value in self.readers]
        pairs += [(values[id(value)].sum(), value.tensor()) for value in self._losses]
        if not all(there is None or self._agree(again, there.detach()) for again, there in pairs):
            raise NotRepeatableError("what was recorded behind it does not give again what it gave")

    def _agree(self, found: Tensor, expected: Tensor) -> bool:
        """Whether tensors are the same but for the rounding of the layer's dtypes."""
        narrow = any(torch.finfo(each).bits < 32 for each in self._dtypes() | {found.dtype})
        error = (found - expected).float().norm()
        return bool(error <= (5e-2 if narrow else 1e-3) * expected.float().norm())

    def _values(self, h: Tensor) -> Values:
        known, recorded = {id(self.source): h}, self.call.gave(h)
        if recorded:
            for call, value in self.readers:
                x = call.saw()
                if x is not None:
                    known[id(value)] = x
        return Values(self._by_rows(), known, is_recorded=recorded)

    def _by_rows(self) -> list[Node]:
        """The operators without those whose results, of a whole batch, are held as they were."""
        return [each for each in self.nodes if not _is_scalar(each) or each.order in self._by_row]

    def _dtypes(self) -> set[torch.dtype]:
        """Dtypes that the layer computes in, other than that of the output."""
        given = (node.kwargs.get("dtype") for node in self.nodes)
        return {each for each in given if each is not None and each.is_floating_point}


def _leading_to(
    readers: list[tuple[UnitCall, Value]], losses: list[Value], nodes: list[Node]
) -> tuple[list[Node], set[int]]:
    """The operators without which the values would not be there, in their order, and those among
    them that make a loss of what is known row by row.
    """
    summed = {id(value) for value in losses}
    wanted, leading, by_row = summed | {id(value) for _, value in readers}, [], set()
    for node in reversed(nodes):
        made = {id(output) for output in node.outputs if output is not None}
        if not made & wanted:
            continue
        asked = [each if each and id(each) in wanted else None for each in node.outputs]
        leading.append(node if asked == node.outputs else replace(node, outputs=asked))
        read = {ref.value for ref in node.refs if ref.value is not None}
        wanted |= read
        if made & summed and _is_scalar(node):
            by_row.add(node.order)
            summed |= read
    return leading[::-1], by_row


def _passed_by_gradients(nodes: list[Node]) -> list[Node]:
    return [node for node in nodes if not node.is_choice]


def _is_scalar(node: Node) -> bool:
    return all(output is None or output.is_scalar for output in node.outputs)


def _passed(call: UnitCall, value: Value, x: Tensor) -> Tensor:
    """A scalar whose gradient by a quantizer's input is what the backward pass brought there."""
    if call.passed is None or not value.is_last or len(value.readers) > 1:
        return call.losses(x).sum()
    return (x * call.passed).sum()


def _at_least_float32(h: Tensor) -> torch.dtype:
    return torch.promote_types(h.dtype, torch.float32)


def _add(squares: dict[int, Tensor], key: int, more: Tensor) -> None:
    squares[key] = squares[key] + more if key in squares else more


def _keep(node: Node, results: list, values: dict[int, Tensor]) -> None:
    for output, result in zip(node.outputs, results, strict=True):
        if output is not None:
            values[id(output)] = result


def _computing(h: Tensor) -> torch.autocast:
    # Casts of a forward pass under autocast are recorded.
    return torch.autocast(h.device.type, enabled=False)
