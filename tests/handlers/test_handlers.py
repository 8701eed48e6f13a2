"""Registration with Brevitas' managers; torch-QCDQ and ``quant_inference_mode``."""

import pytest
import torch
from brevitas.export import export_torch_qcdq
from brevitas.export.inference import quant_inference_mode
from brevitas.export.inference.manager import InferenceManager
from brevitas.export.onnx.qonnx.manager import QONNXManager
from brevitas.export.onnx.standard.qcdq.manager import StdQCDQONNXManager
from brevitas.export.torch.qcdq.manager import TorchQCDQManager
from brevitas.nn import QuantConv2d, QuantIdentity
from torch import nn

from brevitas_ftprop import quant
from brevitas_ftprop.handlers import register_handlers
from brevitas_ftprop.proxy import TargetPropActQuantProxy, TargetPropWeightQuantProxy

MANAGERS = [QONNXManager, StdQCDQONNXManager, TorchQCDQManager, InferenceManager]
CHANNELS = 4


def subclasses(manager):
    return [manager] + [deeper for sub in manager.__subclasses__() for deeper in subclasses(sub)]


@pytest.mark.parametrize("manager", MANAGERS, ids=lambda m: m.__name__)
def test_each_proxy_has_one_handler_with_each_manager_and_its_subclasses(manager):
    register_handlers()
    for each in subclasses(manager):
        for proxy in (TargetPropActQuantProxy, TargetPropWeightQuantProxy):
            handled = [h for h in each.handlers if proxy is getattr(h, "handled_layer", None)]
            assert len(handled) == 1, each


def options_of(name):
    options = {}
    if not any(kind in name for kind in ("Binary", "Ternary", "Staircase")):
        options["bit_width"] = 3
    if "Act" in name and "Staircase" not in name:
        options |= {"min_val": -0.8, "max_val": 0.8}
    if "ActPerChannel" in name:
        options["per_channel_broadcastable_shape"] = (1, CHANNELS, 1, 1)
        options["scaling_stats_permute_dims"] = (1, 0, 2, 3)
    return options


def network(name):
    """A convolution between two activations, of which one kind is the quantizer under test."""
    quantizer, options = getattr(quant, name), options_of(name)
    if "Act" in name:
        conv = QuantConv2d(CHANNELS, CHANNELS, 3, bias=False, weight_bit_width=4)
        act, last = [QuantIdentity(act_quant=quantizer, **options) for _ in range(2)]
    else:
        prefixed = {f"weight_{key}": value for key, value in options.items()}
        conv = QuantConv2d(CHANNELS, CHANNELS, 3, bias=False, weight_quant=quantizer, **prefixed)
        act, last = QuantIdentity(bit_width=4), QuantIdentity(bit_width=4)
    model = nn.Sequential(act, conv, nn.BatchNorm2d(CHANNELS), last)
    for _ in range(3):
        model(images())
    return model.eval()


def images():
    x = torch.randn(2, CHANNELS, 6, 6)
    x.view(-1)[:8] = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 0.25, 0.75])
    return x


@pytest.mark.parametrize("name", quant.__all__)
def test_inference_mode_computes_what_was_trained(name):
    model, x = network(name), images()
    with torch.no_grad():
        expected = model(x)
        with quant_inference_mode(model):
            # The first pass fills the caches, the second uses them.
            passes = [model(x), model(x)]
        after = model(x)
    for y in passes:
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(after, expected)


@pytest.mark.parametrize("name", quant.__all__)
def test_torch_qcdq_computes_what_was_trained(name):
    model, x = network(name), images()
    with torch.no_grad():
        expected = model(x)
    exported = export_torch_qcdq(model, args=x)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", quant.__all__)
def test_training_goes_on_after_an_export_and_inference(name):
    model, x = network(name), images()
    export_torch_qcdq(model, args=x)
    with torch.no_grad(), quant_inference_mode(model):
        model(x)
    model.train()
    x.requires_grad_()
    model(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_inference_mode_works_on_the_binary_activations_that_crash_stock():
    model = nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst)
    ).eval()
    x = torch.tensor([[-2.0, -0.0, 0.0, 2.0]])
    with torch.no_grad(), quant_inference_mode(model):
        assert model(x).tolist() == [[-1, 1, 1, 1]]
