"""Sized FIFOs hold no more than those of FINN's own depths, where those run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from qonnx.core.modelwrapper import ModelWrapper

from brevitas_ftprop.export.finn.accelerator.bench import UNBOUNDED, Bench
from brevitas_ftprop.export.finn.accelerator.fifo_search import FRAMES
from brevitas_ftprop.export.finn.accelerator.network import SHALLOWEST
from brevitas_ftprop.export.finn.accelerator.preparation import prepared

from .conftest import PART


class Simulated:
    """Stands for FINN's simulation in Vivado: the same questions, answered by ours."""

    def __init__(self, bench: Bench, model: ModelWrapper) -> None:
        from finn.transformation.fpgadataflow.insert_dwc import InsertDWC

        self.bench, self.runs = bench, 0
        self.model = ModelWrapper(model.model, make_deepcopy=True).transform(InsertDWC())
        for node, unit in zip(self.model.graph.node, bench.network.units, strict=True):
            node.name = unit.name

    def fifos(self, unit) -> list[str]:
        ours = [fifo for fifo in self.bench.network.fifos if fifo.producer == unit.name]
        return [fifo.name for fifo in sorted(ours, key=lambda fifo: fifo.output)]

    def by_fifo(self, depths: list[list[int]]) -> dict[str, int]:
        """FINN's lists, without that at the input, which FINN does not search."""
        network = self.bench.network
        pairs = zip(network.units, depths, strict=True)
        found = {n: d for unit, own in pairs for n, d in zip(self.fifos(unit), own, strict=True)}
        return {network.fifos[0].name: SHALLOWEST} | found

    def simulate(self, depths=None, max_cycles=None, fifo_first_valid_cycles=None):
        network = self.bench.network
        given = dict.fromkeys((fifo.name for fifo in network.fifos), UNBOUNDED)
        if depths is not None:
            given = self.by_fifo(depths)
        limit = self.bench.limit(FRAMES) if max_cycles is None else max_cycles
        record = self.bench.run(given, frames=FRAMES, limit=limit)
        self.runs += 1
        is_late = record.status != "done"
        steady = 0 if is_late else record.ends[-1] - record.ends[-2]
        seen = {fifo.name: fill for fifo, fill in zip(network.fifos, record.fifos, strict=True)}
        told = [
            {
                "name": unit.name,
                "fifo_utilization": [seen[name].largest for name in self.fifos(unit)],
                "cycles": record.cycles,
                "intervals": [steady],
                "fifo_cycles_until_first_valid": [0] * len(unit.given),
            }
            for unit in network.units
        ]
        return told, is_late


def finns_depths(bench: Bench, model: ModelWrapper, monkeypatch, folder: Path):
    """What FINN's default sizing finds, with our simulation in the place of Vivado's."""
    from finn.transformation.fpgadataflow import simulation_connected as finn

    simulated = Simulated(bench, model)
    monkeypatch.setattr(finn, "NodeConnectedSimulation", lambda *given, **options: simulated)
    monkeypatch.setattr(finn, "store_fifo_data", lambda model, *given, **options: model)
    monkeypatch.setattr(finn, "make_build_dir", lambda *given: folder)
    monkeypatch.setattr(finn.MpiSimConfig, "from_build_config", lambda settings: None)
    model.set_metadata_prop("shm_prefix", "ours")
    settings = SimpleNamespace(functional_simulation=False)
    searched, _ = finn.RunLayerParallelSimulation(PART, 5.0, settings).apply(model)
    found = json.loads(Path(searched.get_metadata_prop("fifo_data")).read_text())
    return simulated.by_fifo([node["depths"] for node in found]), simulated.runs


def compared(path, images, size, cache, monkeypatch, folder, **options) -> tuple[int, int]:
    """Sums of our depths and of FINN's."""
    device = {"fpga_part": PART, "clock_ns": 5.0}
    with prepared(path, images, cache=cache, hlslib=None, progress=False, **device) as bench:
        finns, runs = finns_depths(bench, ModelWrapper(str(path)), monkeypatch, folder)
    ours = size(path, images, **options)
    assert ours.ok, str(ours)
    assert ours.depths.keys() == finns.keys()
    bits = sum(finns[fifo.name] * fifo.bits for fifo in ours.fifos)
    print(
        f"{len(finns)} FIFOs: ours hold {sum(ours.depths.values())} transactions, {ours.bits} bits;"
        f" those of FINN's search, after {runs} runs, {sum(finns.values())}, {bits} bits"
    )
    return sum(ours.depths.values()), sum(finns.values())


def test_where_the_default_depth_keeps_pace_it_stays(
    size, simulate, exported, cache, monkeypatch, tmp_path
):
    folder, images, _ = exported
    plain = simulate(folder, images, frames=3)
    path = folder / "7_folded.onnx"
    ours, finns = compared(path, images, size, cache, monkeypatch, tmp_path)
    assert ours == SHALLOWEST * len(plain.fifos)
    assert ours <= finns
    assert size(folder, images).report.steady == plain.steady


def test_a_residual_block_needs_less_than_finns_search_gives(
    size, block, cache, monkeypatch, tmp_path
):
    model, images = block
    path = tmp_path / "block.onnx"
    model.save(str(path))
    ours, finns = compared(path, images, size, cache, monkeypatch, tmp_path)
    assert ours <= finns


@pytest.mark.slow
def test_a_residual_networks_depths_hold_no_more_than_those_of_finns_search(
    size, resnet, cache, monkeypatch, tmp_path
):
    path, images, _ = resnet
    ours, finns = compared(path, images, size, cache, monkeypatch, tmp_path)
    assert ours <= finns
