"""Take networks as others define them through all that this package does, and print a table.

Each definition is built untrained, gets target-prop quantizers by `swap_quantizers` (its outputs
must stay the same bits), takes one training step, is written as QONNX and as QCDQ and verified, is
checked for FINN and for hls4ml, and goes through FINN's flow and hls4ml's C simulation where the
check lets it (the latter up to 64x64 pixels). Images are pieces of two photographs that
scikit-learn ships.

    python examples/definitions.py --out definitions
    python examples/definitions.py --out definitions --only resnet18
    python examples/definitions.py --out definitions_full --full --only resnet18 alexnet

A definition whose row stands in the folder is not run again, unless something in it failed. Each
runs in a process of its own. Exit code 1 if an export or a build failed, or is not verified.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import cluster
import torch
from others.catalogue import FULL, NARROW, Definition, settled
from torch import Tensor, nn

from brevitas_ftprop import (
    check_deployable,
    export_finn,
    export_hls4ml,
    export_qcdq,
    export_qonnx,
    swap_quantizers,
    verify_export,
)
from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.export.tables import markdown_table
from brevitas_ftprop.provenance import versions

EXPORTS = ("QONNX", "QCDQ", "FINN", "hls4ml")
COMPARED = 3
# Numbers of an image up to which hls4ml's simulation ends in minutes.
SIMULATED = 3 * 64 * 64
RULE = "soft_hinge"


def run(definition: Definition, folder: Path) -> dict[str, Any]:
    """All that is done with a definition, as the columns of its row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.perf_counter()
    entering = definition.entering(COMPARED)
    images = definition.seen(entering)
    model = settled(definition.make(), images).eval()
    row = {"origin": definition.origin, "network": definition.name, "full": definition.is_full}
    row |= _swapped(model, images) | {"step": _step(model, images)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, export in (("QONNX", export_qonnx), ("QCDQ", export_qcdq)):
        row[name] = _tried(
            lambda name=name, export=export: _file(model, images, folder, name, export)
        )
    for name, flow in (("FINN", _finn), ("hls4ml", _hls4ml)):
        row[name] = _tried(lambda flow=flow: flow(definition, model, entering, images, folder))
    packages = versions("torch", "brevitas", "finn-plus", "hls4ml", "onnxruntime")
    return row | {"versions": packages, "seconds": time.perf_counter() - started}


def _swapped(model: nn.Module, images: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        before = model(images)
        report = swap_quantizers(model, RULE)
        same = torch.equal(_tensor(before), _tensor(model(images)))
    return {"swapped": len(report.changed), "same bits": same}


def _step(model: nn.Module, images: Tensor) -> bool:
    """One step of gradient descent; whether loss and gradients were finite, and something moved."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = _tensor(model.train()(images)).square().mean()
    loss.backward()
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    optimizer.step()
    model.eval()
    finite = all(bool(each.isfinite().all()) for each in gradients)
    return bool(loss.isfinite()) and finite and any(bool(each.any()) for each in gradients)


def _tried(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        found = part()
    except Exception as error:  # What others define may fail anywhere: the table says how.
        found = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
    return found | {"seconds": time.perf_counter() - started}


def _file(model: nn.Module, images: Tensor, folder: Path, name: str, export: Any) -> dict[str, Any]:
    path = export(model, images[:1], folder / f"{name}.onnx", dynamo=False, overwrite=True)
    report = verify_export(model, path, images)
    return {
        "integers": sum(each.compared for each in report.quantizers),
        # Outputs are among them.
        "different": report.mismatches,
        "excused": sum(each.excused for each in report.quantizers),
        "ok": report.ok,
    }


def _finn(
    definition: Definition, model: nn.Module, entering: Tensor, images: Tensor, folder: Path
) -> dict[str, Any]:
    found = _refused(check_deployable(model, images[:1], dynamo=False, **definition.io))
    if found:
        return found
    report = export_finn(
        model,
        images[:1],
        folder / "finn",
        batch=entering,
        dynamo=False,
        overwrite=True,
        progress=False,
        **definition.io,
    )
    return {
        "integers": sum(step.compared for step in report.steps),
        "different": report.mismatches + sum(step.wrong_outputs for step in report.steps),
        "excused": report.excused,
        "steps": len(report.steps),
        "software": report.steps[-1].software_nodes,
        "ok": report.ok,
    }


def _hls4ml(
    definition: Definition, model: nn.Module, entering: Tensor, images: Tensor, folder: Path
) -> dict[str, Any]:
    found = _refused(check_deployable(model, images[:1], "hls4ml", dynamo=False))
    if found:
        return found
    if images[0].numel() > SIMULATED:
        return {"unsimulated": True}
    report = export_hls4ml(model, images[:1], folder / "hls4ml", batch=images, overwrite=True)
    return {
        "integers": sum(layer.compared for layer in report.layers),
        "different": sum(layer.mismatches for layer in report.layers) + report.output_mismatches,
        "excused": sum(layer.excused for layer in report.layers),
        "ok": report.ok,
    }


def _refused(report: Any) -> dict[str, Any]:
    """What the check says, if it refuses."""
    if report.ok:
        return {}
    first, *others = report.errors
    more = f", and {len(others)} more" if others else ""
    return {"refused": f"{first.requirement}{more}", "layer": first.layer, "message": first.message}


def _tensor(output: Any) -> Tensor:
    return getattr(output, "value", output)


def cell(part: dict[str, Any]) -> str:
    """What stands in the table of an export: integers and differences, or why there are none."""
    if "refused" in part:
        return f"refused: `{part['refused']}`"
    if "error" in part:
        return f"failed: {part['error']}"
    if "unsimulated" in part:
        return "passes the check"
    counts = f"{part['different']} of {part['integers']}" + ", not verified" * (not part["ok"])
    excused = f", {part['excused']} excused" if part["excused"] else ""
    software = f", software: {', '.join(part['software'])}" if part.get("software") else ""
    return f"{counts}{excused}{software} ({part['seconds']:.0f} s)"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The definitions as a Markdown table, in which exports are different of compared integers."""
    columns = ("definition of", "network", "swapped", "same bits", "step", *EXPORTS)
    said = {True: "yes", False: "**no**"}
    lines = [
        (
            row["origin"],
            row["network"],
            row["swapped"],
            said[row["same bits"]],
            said[row["step"]],
            *(cell(row[each]) for each in EXPORTS),
        )
        for row in rows
    ]
    return "\n".join(markdown_table(columns, lines))


def _failed(row: dict[str, Any], *, wrong: bool = False) -> bool:
    """Whether an export or a build ended in an error, or, if asked, is not verified."""
    return any(
        "error" in row[each] or (wrong and not row[each].get("ok", True)) for each in EXPORTS
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("definitions"))
    parser.add_argument("--only", nargs="+", default=[], help="parts of names")
    parser.add_argument("--full", action="store_true", help="torchvision's, as wide as published")
    parser.add_argument("--jobs", type=int, default=1, help="definitions at a time")
    cluster.add_argument(parser)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = [
        each
        for each in (FULL if arguments.full else NARROW)
        if not arguments.only or any(part.lower() in each.key.lower() for part in arguments.only)
    ]
    if not chosen:
        parser.error(f"no definition has {' or '.join(arguments.only)} in its name")
    files = {each.key: arguments.out / f"{each.key}.json" for each in chosen}
    try:
        pool = cluster.pool(arguments.cluster, arguments.jobs)
    except ValueError as error:
        parser.error(str(error))
    with pool:
        running = {
            pool.submit(run, each, arguments.out / each.key): each
            for each in chosen
            if not files[each.key].is_file() or _failed(json.loads(files[each.key].read_text()))
        }
        for future in as_completed(running):
            key = running[future].key
            with output_file(files[key], overwrite=True) as stream:
                stream.write(json.dumps(future.result(), indent=2).encode())
            print(f"{key}: done", flush=True)
    rows = [json.loads(files[each.key].read_text()) for each in chosen]
    print(table(rows))
    return int(any(_failed(row, wrong=True) for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
