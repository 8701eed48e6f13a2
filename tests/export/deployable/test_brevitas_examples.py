"""The networks of brevitas_examples go through the flow, or the check says why not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.export.deployable import check_deployable

pytestmark = pytest.mark.slow

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
ACCEPTED = {
    "tfc_1w1a": GREY,
    "tfc_1w2a": GREY,
    "tfc_2w2a": GREY,
    "sfc_1w1a": GREY,
    "lfc_1w1a": GREY,
    "cnv_1w1a": COLOUR,
    "cnv_1w2a": COLOUR,
    "cnv_2w2a": COLOUR,
}


def converted(name: str, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """A network with our rules, its statistics collected by some steps on random images."""
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    model = model_with_cfg(name, False)[0]
    swap_quantizers(model, "soft_hinge")
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.rand(8, *shape)), torch.randint(10, (8,))).backward()
        optimizer.step()
    return model.eval(), torch.rand(1, *shape)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_network_without_errors_takes_pixels_and_gives_the_class(judge, name):
    pixels = {"images": "uint8", "pixels": "x/255", "result": "class"}
    report, error = judge(*converted(name, ACCEPTED[name]), **pixels)
    assert report.ok, str(report)
    assert error is None


def test_resnet_is_refused_for_its_float_image_alone():
    # Its average is truncated to the eight bits that it has.
    report = check_deployable(*converted("resnet18_4w4a", COLOUR), dynamo=False)
    found = [(finding.requirement, finding.layer) for finding in report.errors]
    assert found == [("unquantized-input", "conv1")]
