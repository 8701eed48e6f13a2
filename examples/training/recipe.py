"""What determines a training run: frozen dataclasses, read from YAML and written to JSON."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from brevitas_ftprop import get_rule
from brevitas_ftprop.ops import check_options
from brevitas_ftprop.runs.own_modules import import_parts, own_part
from brevitas_ftprop.runs.rule_choice import STOCK
from brevitas_ftprop.targets import get_setter

from .sections import Data, Loss, Optimizer, Schedule, refuse_below

# Of ``targets``: what a backward pass does without a search.
PLAIN = "gradient_sign"
# Of ``compile``: the one that is a mode of inductor, not a backend.
REDUCE_OVERHEAD = "reduce-overhead"
# Where the images lie does not change what is computed.
PLACES = ("data.root", "data.download")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that determines a run's weights, up to the hardware it runs on.

    Args:
        model: ``convnet4``, ``convnet8``, ``alexnet``, ``resnet18`` (ours), ``brevitas:<name>``
            (of ``brevitas_examples.bnn_pynq``), ``torchvision:<name>`` (quantized by
            ``brevitas.graph.quantize``), ``package.module:factory``, or
            ``finn:package.module:factory`` for a float network, quantized for FINN.
        model_options: further arguments of the model.
        init_weights: file of a state dict to start from, of the same layers with any quantizers or
            none, such as ``weights.pt`` of a run, or torchvision's weights for ``resnet18``.
        act: activation quantizer, by the names of ``brevitas_ftprop.models.LayerOptions``; None
            for the model's own.
        weight_bits: bit width of the weights; None for the model's own.
        rule: target rule of the activation quantizers, or ``stock`` for Brevitas' gradients.
        weight_rule: target rule of the weight quantizers; None leaves them as the model has them.
        weighting: ``grad`` or ``mean``.
        targets: target setter of the sign quantizers, by its spec.
        imports: modules of your own that register rules or setters, each with the hash of its
            source; a rule or setter ``package.module:Class`` adds its module.
        staircase: ``single`` or ``sum``.
        saved: ``exact`` or ``compact``, what the quantizers keep for backward.
        batch_size: images of one optimizer step, over all devices and accumulated parts.
        accumulate: how many parts each device computes its share of a step in.
        epochs: passes over the training images.
        ema: decay of an average of the weights over the steps, which is what is evaluated and
            kept; None for none.
        clip_weights: call the model's ``clip_weights(-1, 1)`` after each step, as Brevitas'
            trainer does.
        gradient_clip: largest norm of the gradient; None for any.
        precision: ``32``, ``bf16`` or ``fp16`` (autocast; fp16 with loss scaling).
        channels_last: lay images and the weights of convolutions out with their channels last, as
            a GPU's convolutions in ``bf16`` and ``fp16`` want them.
        compile: backend of ``torch.compile``, such as ``inductor``, or ``reduce-overhead``, which
            also records CUDA graphs, for networks whose layers a GPU ends before the next is sent;
            None for eager mode.
        cudnn_benchmark: let cuDNN try which of its convolutions are fastest.
        deterministic: use deterministic algorithms only.
        test: evaluate the test images after each ``epoch``, once at the ``end`` or ``never``.
        seed: of the initial weights, the order of the images and their augmentation.

    Raises:
        ValueError: for options that exclude each other or are out of range.
    """

    model: str = "convnet4"
    model_options: dict[str, Any] = field(default_factory=dict)
    init_weights: str | None = None
    act: str | None = None
    weight_bits: int | None = None
    rule: str = "soft_hinge"
    weight_rule: str | None = None
    weighting: Literal["grad", "mean"] = "grad"
    targets: str = PLAIN
    imports: dict[str, str | None] | Sequence[str] = ()
    staircase: Literal["single", "sum"] = "single"
    saved: Literal["exact", "compact"] = "exact"
    data: Data = field(default_factory=Data)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    batch_size: int = 64
    accumulate: int = 1
    epochs: int = 1
    ema: float | None = None
    clip_weights: bool = False
    gradient_clip: float | None = None
    precision: Literal["32", "bf16", "fp16"] = "32"
    channels_last: bool = False
    compile: str | None = None
    cudnn_benchmark: bool = False
    deterministic: bool = False
    test: Literal["epoch", "end", "never"] = "epoch"
    seed: int = 0

    def __post_init__(self) -> None:
        self._import_own_parts()
        # Aliases become the rule's own name, so that equal recipes compare equal.
        if self.rule != STOCK:
            spec = check_options(rule_spec(self.rule), self.weighting, self.staircase)
            object.__setattr__(self, "rule", _at_start(spec))
        elif (self.weighting, self.staircase, self.saved) != ("grad", "single", "exact"):
            raise ValueError(
                "rule: stock has Brevitas' gradients: no weighting, no staircase or saved form"
            )
        if self.weight_rule is not None:
            spec = check_options(self.weight_rule, "grad", self.staircase)
            object.__setattr__(self, "weight_rule", _at_start(spec))
        setter = get_setter(self.targets)
        object.__setattr__(self, "targets", setter.spec)
        if self.compile is not None and not setter.is_default:
            raise ValueError(
                f"targets: {setter} looks at what the network computes, which compile: "
                f"{self.compile} hides: leave out one of them"
            )
        if self.weighting == "mean" and self.precision == "fp16":
            raise ValueError(
                "weighting: mean does not follow the loss scale of precision: fp16, which would "
                "shrink its gradients: use bf16 or 32"
            )
        if self.cudnn_benchmark and self.deterministic:
            raise ValueError(
                "cudnn_benchmark takes the convolution that was fastest, which is not the same in "
                "every run: leave out it or deterministic"
            )
        if self.compile == REDUCE_OVERHEAD:
            self._refuse_what_graphs_cannot()
        if self.precision == "fp16" and self.gradient_clip and self.optimizer.options.get("fused"):
            raise ValueError(
                "gradient_clip finds gradients with the loss scale of precision: fp16, which a "
                "fused optimizer takes off by itself: use bf16, or leave out fused"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is a decay between 0 and 1, not {self.ema}")
        refuse_below(
            1,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            epochs=self.epochs,
            weight_bits=self.weight_bits,
        )
        refuse_below(0, seed=self.seed)
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, not {self.gradient_clip}")
        if self.schedule.warmup_epochs > self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} is more than epochs "
                f"{self.epochs}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split into accumulate = "
                f"{self.accumulate} equal parts"
            )

    def _import_own_parts(self) -> None:
        given = self.imports if isinstance(self.imports, dict) else dict.fromkeys(self.imports)
        found = import_parts(given)
        for name, recorded in given.items():
            if recorded not in (None, found[name]):
                raise ValueError(
                    f"{name} has changed since this recipe was written (the hash of its source is "
                    f"{found[name]}, not {recorded}): bring it back, or train anew with it"
                )
        for field_name in ("rule", "weight_rule", "targets"):
            if (spec := getattr(self, field_name)) is not None:
                own, module = own_part(spec)
                object.__setattr__(self, field_name, own)
                found |= import_parts([module] if module else [])
        object.__setattr__(self, "imports", found)

    def _refuse_what_graphs_cannot(self) -> None:
        if self.accumulate > 1:
            raise ValueError(
                f"compile: {REDUCE_OVERHEAD} writes all gradients to one place, and accumulate "
                "keeps those of earlier parts: use compile: inductor"
            )
        for field_name in ("rule", "weight_rule"):
            spec = getattr(self, field_name)
            if spec not in (None, STOCK) and get_rule(spec).at(0.5).spec != spec:
                raise ValueError(
                    f"compile: {REDUCE_OVERHEAD} records graphs, and {field_name} {spec} changes "
                    "from epoch to epoch: use compile: inductor"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts, fit for JSON."""
        return _plain(asdict(self))

    def with_overrides(self, **overrides: Any) -> Recipe:
        """A copy with other values, nested ones by ``section__field``.

        >>> Recipe().with_overrides(seed=3, optimizer__lr=1e-2).optimizer.lr
        0.01
        """
        sections: dict[str, dict[str, Any]] = {}
        own: dict[str, Any] = {}
        for name, value in overrides.items():
            section, nested, rest = name.partition("__")
            if nested:
                sections.setdefault(section, {})[rest] = value
            else:
                own[name] = value
        for section, values in sections.items():
            own[section] = replace(getattr(self, section), **values)
        return replace(self, **own)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`."""
        parser = recipe_parser()
        return _built(parser, parser.parse_object(values))


def load_recipe(path: str | Path, arguments: Sequence[str] = (), **overrides: Any) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: of the file.
        arguments: options that replace its fields, as the command line has them.
        **overrides: as for :meth:`Recipe.with_overrides`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a field that is unknown or has a value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}")
    parser = recipe_parser()
    parser.add_argument("--config", action="config")
    try:
        values = parser.parse_args(["--config", str(path), *arguments])
    except ArgumentError as error:
        raise ValueError(f"{path}: {error}") from error
    del values["config"]
    return _built(parser, values).with_overrides(**overrides)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Dotted names of the fields in which two recipes, as dictionaries, differ.

    Where their images lie and what only one imports does not count; a field that one is too old to
    have is its default.

    >>> differences(Recipe().to_dict(), Recipe(epochs=2, optimizer=Optimizer(lr=1.0)).to_dict())
    ['optimizer.lr', 'epochs']
    """
    return _differences(one, other, Recipe().to_dict(), "")


def _differences(
    one: dict[str, Any], other: dict[str, Any], defaults: dict[str, Any], prefix: str
) -> list[str]:
    names = []
    for name in dict.fromkeys((*one, *other)):
        default = defaults.get(name)
        mine, theirs = one.get(name, default), other.get(name, default)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            inner = default if isinstance(default, dict) else {}
            names += _differences(mine, theirs, inner, f"{prefix}{name}.")
        elif mine != theirs and f"{prefix}{name}" not in PLACES:
            # A module more changes nothing: the rules and setters that are taken from it are told.
            if prefix == "imports." and None in (mine, theirs):
                continue
            names.append(f"{prefix}{name}")
    return names


def rule_spec(rule: str) -> str:
    """A rule's canonical spec, or ``stock``.

    Raises:
        ValueError: for an unknown rule; lists the valid ones, ``stock`` among them.
    """
    if rule == STOCK:
        return rule
    try:
        return get_rule(rule).spec
    except ValueError as error:
        if not str(error).startswith("unknown rule"):
            raise
        raise ValueError(f"{error}; {STOCK} keeps the model's own gradients") from error


def _at_start(spec: str) -> str:
    rule = get_rule(spec)
    if rule.at(0.0).spec != spec:
        raise ValueError(f"the progress of {rule.name} is set by training, which starts at 0")
    return spec


def recipe_parser() -> ArgumentParser:
    """A parser with an option for each field of a recipe; it raises what is wrong."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    return parser


def _built(parser: ArgumentParser, values: Any) -> Recipe:
    return Recipe(**parser.instantiate(values))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
