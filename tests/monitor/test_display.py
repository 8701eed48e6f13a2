"""What a monitor shows: scalars, a table, a figure."""

from __future__ import annotations

import copy
import io
import sys

import pytest
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy

from brevitas_ftprop.monitor import METRICS, Monitor
from brevitas_ftprop.monitor.display import SHARES, table

pytestmark = pytest.mark.heavy


@pytest.fixture
def monitor(network, batches, train) -> Monitor:
    images, _ = batches[0]
    with Monitor(network, every=2, units=8, probe=lambda: network(images).square().sum()) as seen:
        train(network, batches, seen)
    return seen


def test_scalars_are_those_of_the_last_sampled_step(monitor):
    layers = monitor.history[-1]["layers"]
    scalars = monitor.scalars()
    assert scalars["2.act_quant/dead"] == layers["2.act_quant"]["dead"]
    assert len(scalars) == len(layers) * len(METRICS)
    assert {tag.partition("/")[2] for tag in scalars} == set(METRICS)


def test_scalars_are_written_for_tensorboard(monitor, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        monitor.write_scalars(writer)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == set(monitor.scalars())
    (event,) = events.Scalars("2.act_quant/at_target")
    assert event.step == 4
    assert event.value == pytest.approx(monitor.scalars()["2.act_quant/at_target"])


def test_the_table_has_a_row_a_quantizer(monitor):
    table = monitor.table()
    assert table.row_count == len(monitor.history[-1]["layers"])
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert "step 4" in text
    assert f"{monitor.history[-1]['layers']['2.act_quant']['at_target']:.1%}" in text


def test_the_figure_has_a_panel_a_metric_of_quantizers_and_time(monitor, tmp_path):
    figure = monitor.figure()
    panels = [axis for axis in figure.axes if axis.images]
    *panels, margins = panels
    assert [axis.get_title() for axis in panels] == [f"{k}: {v}" for k, v in METRICS.items()]
    names = list(monitor.history[0]["layers"])
    for axis in panels:
        assert axis.images[0].get_array().shape == (len(names), len(monitor.history))
    shown = panels[0].images[0].get_array()
    assert shown[1][2] == monitor.history[2]["layers"][names[1]]["at_target"]
    last = monitor.history[-1]["layers"]
    assert margins.images[0].get_array().tolist() == [last[name]["margins"] for name in names]
    figure.savefig(tmp_path / "monitor.png")
    assert (tmp_path / "monitor.png").stat().st_size > 1000


def test_the_figure_is_an_image_in_tensorboard(monitor, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        monitor.write_figure(writer)
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("target_prop")
    assert image.step == 4
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_the_table_fits_80_columns_and_cuts_no_part_of_a_name():
    metrics = dict.fromkeys(METRICS, 1.234e-5) | dict.fromkeys(SHARES, 1.0)
    name = "features.layers.13.downsample.conv1.weight_quant"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table([{"step": 7, "layers": {name: metrics}}]))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert all(part in text for part in name.split("."))
    assert text.count("100.0%") == len(SHARES)
    assert text.count("1.2e-05") == len(METRICS) - len(SHARES)


@pytest.mark.parametrize("probe", [torch.zeros(2, 3), "images", (torch.zeros(2), "labels"), 3])
def test_a_probe_that_is_neither_a_batch_nor_a_function_is_refused(network, probe):
    from brevitas_ftprop.monitor.callback import MonitorCallback

    for made in (lambda: Monitor(network, probe=probe), lambda: MonitorCallback(probe=probe)):
        with pytest.raises(TypeError, match=r"batch \(images, labels\) of tensors, or a function"):
            made()


def test_a_batch_as_probe_is_its_cross_entropy(network, batches, train):
    images, labels = batches[0]
    histories = []
    other = copy.deepcopy(network)
    by_hand = (other, lambda: cross_entropy(other(images), labels))
    for model, probe in ((network, (images, labels)), by_hand):
        torch.manual_seed(0)
        with Monitor(model, every=1, units=8, probe=probe) as seen:
            train(model, batches, seen)
        flips = [entry["layers"]["2.act_quant"]["target_flips"] for entry in seen.history]
        assert flips[1] is not None
        histories.append(flips)
    assert histories[0] == histories[1]


def test_before_the_first_sample_the_table_is_empty_and_there_is_no_figure(network):
    with Monitor(network) as monitor:
        assert monitor.table().row_count == 0
        assert monitor.scalars() == {}
        with pytest.raises(ValueError, match="no step has been sampled"):
            monitor.figure()


def test_steps_without_a_gradient_make_no_figure(network):
    with Monitor(network, every=1) as seen:
        seen.step()
        with pytest.raises(ValueError, match="no quantizer had a gradient"):
            seen.figure()


def test_a_single_step_of_a_single_quantizer_is_drawn_too(network, batches, train, tmp_path):
    with Monitor(network[:3], every=1) as monitor:
        network[:3](batches[0][0]).sum().backward()
        monitor.step()
    monitor.history[0]["layers"].pop("0.weight_quant")
    monitor.figure().savefig(tmp_path / "monitor.png")


@pytest.mark.parametrize(("package", "shown"), [("rich.table", "table"), ("matplotlib", "figure")])
def test_a_missing_package_is_told_with_its_install_line(monitor, monkeypatch, package, shown):
    for module in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'brevitas-ftprop\[cli\]'"):
        getattr(monitor, shown)()
