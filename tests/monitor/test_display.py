"""What a monitor shows: scalars, a table, a figure."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from brevitas_ftprop.monitor import METRICS, Monitor


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
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text()
    assert "step 4" in text
    assert f"{monitor.history[-1]['layers']['2.act_quant']['at_target']:.1%}" in text


def test_the_figure_has_a_panel_a_metric_of_quantizers_and_time(monitor, tmp_path):
    figure = monitor.figure()
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in panels] == list(METRICS.values())
    names = list(monitor.history[0]["layers"])
    for axis in panels:
        assert axis.images[0].get_array().shape == (len(names), len(monitor.history))
    shown = panels[0].images[0].get_array()
    assert shown[1][2] == monitor.history[2]["layers"][names[1]]["at_target"]
    figure.savefig(tmp_path / "monitor.png")
    assert (tmp_path / "monitor.png").stat().st_size > 1000


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
