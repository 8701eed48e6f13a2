"""Take a small network from handwritten digits to an FPGA accelerator, every step compared.

A convnet with sign activations learns scikit-learn's digits, enlarged to 16x16 RGB pixels. Then it
is checked, compiled with FINN into an accelerator that takes uint8 pixels and gives the class, and
its RTL is simulated where Verilator is installed. The command line does the same:

    brevitas-ftprop check export_fpga:build_model CHECKPOINT --input-shape 1,3,16,16
    brevitas-ftprop export finn export_fpga:build_model --checkpoint CHECKPOINT ...
    brevitas-ftprop simulate export_fpga_out/accelerator/7_folded.onnx

    python examples/export_fpga.py --out export_fpga_out
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from brevitas_ftprop import export_finn
from brevitas_ftprop.export import MissingToolError
from brevitas_ftprop.export.deployable import check_deployable
from brevitas_ftprop.export.finn.rtl import simulate_rtl
from brevitas_ftprop.models import ConvNet4

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
TEST_DIGITS = 400


def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's 1797 digits as uint8 pixels (N, 3, 16, 16), and their labels."""
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) * (255 / 16)
    large = functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), torch.tensor(labels)


def normalized(pixels: Tensor) -> Tensor:
    """What the network sees; the accelerator does this itself."""
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def build_model() -> nn.Module:
    """Sign activations with the soft hinge, 2-bit weights, power-of-two scales for exact sums."""
    return ConvNet4(10, 16, channels=(8, 16), fc=32, form="hardware", act="sign", rule="soft_hinge")


def train(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> None:
    """Adam on random batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=order)
        optimizer.zero_grad()
        # Sums of quantized values are large; a fixed temperature keeps the softmax soft.
        functional.cross_entropy(model(images[batch]) / 4, labels[batch]).backward()
        optimizer.step()
    model.eval()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--out", type=Path, default=Path("export_fpga_out"))
    parser.add_argument("--fast", action="store_true", help="few steps, one node simulated")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    # On layers this small a second thread costs more than it brings.
    torch.set_num_threads(1)

    torch.manual_seed(0)
    model = build_model()
    pixels, labels = digits()
    images = normalized(pixels)
    test, rest = slice(None, TEST_DIGITS), slice(TEST_DIGITS, None)
    train(model, images[rest], labels[rest], steps=20 if options.fast else options.steps)
    with torch.no_grad():
        right = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"{right:.1%} of {TEST_DIGITS} test digits right")
    torch.save(model.state_dict(), options.out / "checkpoint.pt")

    findings = check_deployable(model, images[:1], "finn", images="uint8", result="class")
    print(findings)
    if not findings.ok:
        return 1
    folder = options.out / "accelerator"
    report = export_finn(
        model,
        images[:1],
        folder,
        batch=pixels[: 4 if options.fast else 16],
        images="uint8",
        mean=MEAN,
        std=STD,
        result="class",
        overwrite=True,
    )
    print(report)
    try:
        simulated = simulate_rtl(
            folder / "7_folded.onnx",
            pixels[:2].permute(0, 2, 3, 1),
            nodes="Thresholding_rtl_0" if options.fast else "all",
        )
    except MissingToolError as error:
        print(f"The RTL was not simulated: {error}")
        return 0 if report.ok else 1
    print(simulated)
    print(f"Files: {options.out}")
    return 0 if report.ok and simulated.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
