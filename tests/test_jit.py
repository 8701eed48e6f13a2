"""``BREVITAS_JIT=1`` in a subprocess: the same training as without; live models are refused."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

TRAIN = """
    import sys, torch
    from brevitas.nn import QuantIdentity, QuantLinear
    from brevitas_ftprop import quant

    torch.set_num_threads(1)
    results = {}
    for name in quant.__all__:
        torch.manual_seed(3)
        options = {"rule": "soft_hinge", "staircase": "sum"}
        if not any(kind in name for kind in ("Binary", "Ternary", "Staircase")):
            options["bit_width"] = 3
        if "Act" in name:
            if "Staircase" not in name:
                options |= {"min_val": -0.7, "max_val": 0.7}
            if "PerChannel" in name:
                options |= {
                    "per_channel_broadcastable_shape": (1, 6),
                    "scaling_stats_permute_dims": (1, 0),
                }
            act = QuantIdentity(act_quant=getattr(quant, name), **options)
            model = torch.nn.Sequential(torch.nn.Linear(6, 6), act, torch.nn.Linear(6, 2))
        else:
            prefixed = {f"weight_{key}": value for key, value in options.items()}
            layer = QuantLinear(6, 6, False, weight_quant=getattr(quant, name), **prefixed)
            # Scripted, stock Brevitas does not clip latent weights: keep them within the scale.
            layer.weight.data.mul_(0.1)
            model = torch.nn.Sequential(layer, torch.nn.Tanh(), torch.nn.Linear(6, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        values = []
        for _ in range(4):
            optimizer.zero_grad()
            y = model(torch.randn(8, 6))
            y = getattr(y, "value", y)
            y.square().sum().backward()
            optimizer.step()
            values.append(y.detach())
        gradients = [p.grad for p in model.parameters()]
        results[name] = [*values, *gradients, *model.state_dict().values()]
        proxy = model[1].act_quant if "Act" in name else model[0].weight_quant
        proxy.rule = "hinge"
        model(torch.randn(8, 6)).sum().backward()
        assert proxy.rule == "hinge"
        results[name] += [p.grad for p in model.parameters()]
    torch.save(results, sys.argv[1])
    """

CONVERT = """
    import torch
    from brevitas.nn import QuantIdentity, QuantLinear
    from brevitas_ftprop import quant, restore_quantizers, swap_quantizers
    from brevitas.quant import SignedBinaryActPerTensorConst

    model = torch.nn.Sequential(
        QuantLinear(4, 4, False), QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    )
    before = [(name, id(m), type(m)) for name, m in model.named_modules()]
    for options in ({}, {"weights": True, "activations": False}):
        try:
            swap_quantizers(model, **options)
        except TypeError as error:
            assert "scripted" in str(error) and "BREVITAS_JIT=0" in str(error), error
        else:
            raise AssertionError("a scripted model was converted")
        assert [(name, id(m), type(m)) for name, m in model.named_modules()] == before
    ours = torch.nn.Sequential(
        QuantIdentity(act_quant=quant.TargetPropSignedBinaryActPerTensorConst)
    )
    try:
        restore_quantizers(ours)
    except TypeError as error:
        assert "scripted" in str(error), error
    else:
        raise AssertionError("a scripted model was restored")
    """


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # Brevitas compiles an extension at import. In torch's shared folder it would wait for ever on
    # the lock of a process that was killed, or load what another version of torch has built.
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path_factory.mktemp("extensions"))}

    def run(script, jit, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            env=environment | {"BREVITAS_JIT": str(int(jit))},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jit")
    for jit in (False, True):
        run(TRAIN, jit, folder / f"{jit}.pt")
    return [torch.load(folder / f"{jit}.pt") for jit in (False, True)]


@pytest.mark.slow
def test_scripted_quantizers_train_to_the_same_values(trained):
    plain, scripted = trained
    assert plain.keys() == scripted.keys()
    for name in plain:
        assert len(plain[name]) == len(scripted[name])
        for one, other in zip(plain[name], scripted[name], strict=True):
            # float32; TorchScript may fuse Brevitas' own scale arithmetic
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_converting_a_live_scripted_model_is_refused(run):
    run(CONVERT, True)
