"""Take hardware forms of AlexNet and ResNet-18 through FINN and print a table of the builds.

Each network is converted by `swap_quantizers`, trained for a few steps on real images, and compiled
by `export_finn`, which compares every step's integers with PyTorch's on real, random and
adversarial images. The narrow builds cover all pairs of activation, weight width, scale granularity
and exporter; the full ones have the paper's widths, 224x224 images and 1000 classes.

    python examples/finn_builds.py --images cifar10/train --out finn_builds
    python examples/finn_builds.py --images cifar10/train --out finn_builds_full --full

Images are a folder with one folder a class. A build that stands in `builds.json` is not made again.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cluster
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import Compose, Normalize, Resize, ToDtype, ToImage

from brevitas_ftprop import export_finn, swap_quantizers
from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.export.tables import markdown_table
from brevitas_ftprop.models import QuantAlexNet, QuantResNet18

PART = "xczu7ev-ffvc1156-2-e"
TRAINED_ON = 32


@dataclass(frozen=True)
class Build:
    """One network to build; ``images`` is how many real ones it is compared on."""

    network: str
    act: str
    bits: int
    scale: str = "tensor"
    dynamo: bool = True
    images: int = 3

    @property
    def name(self) -> str:
        exporter = "dynamo" if self.dynamo else "torchscript"
        return f"{self.network}-{self.act}-{self.bits}w-{self.scale}-{exporter}"


# Network, its image size and frames a second to fold it for.
SIZES = {
    "alexnet": (64, 1000),
    "resnet18_cifar": (32, 1000),
    "resnet18_imagenet": (64, 1000),
    "full_alexnet": (224, 50),
    "full_resnet18": (224, 50),
}
NARROW = (
    Build("alexnet", "sign", 1, "tensor", True, 100),
    Build("alexnet", "sign", 4, "channel", False),
    Build("alexnet", "staircase3", 2, "channel", True, 100),
    Build("alexnet", "staircase5", 4, "tensor", False),
    Build("alexnet", "staircase5", 1, "channel", True),
    Build("alexnet", "int2", 1, "channel", False),
    Build("alexnet", "int4", 2, "tensor", False),
    Build("resnet18_cifar", "sign", 2, "channel", True, 100),
    Build("resnet18_cifar", "staircase3", 1, "tensor", False),
    Build("resnet18_cifar", "staircase3", 4, "channel", True),
    Build("resnet18_cifar", "staircase5", 2, "tensor", True),
    Build("resnet18_cifar", "int2", 4, "tensor", True),
    Build("resnet18_cifar", "int2", 2, "channel", False),
    Build("resnet18_cifar", "int4", 1, "channel", True),
    Build("resnet18_imagenet", "sign", 4, "tensor", True),
    Build("resnet18_imagenet", "sign", 1, "tensor", False),
    Build("resnet18_imagenet", "staircase3", 2, "tensor", False, 100),
    Build("resnet18_imagenet", "staircase5", 1, "channel", False),
    Build("resnet18_imagenet", "int2", 1, "tensor", True),
    Build("resnet18_imagenet", "int4", 4, "channel", False),
)
FULL = tuple(
    Build(network, act, 2, images=2)
    for network in ("full_alexnet", "full_resnet18")
    for act in ("sign", "staircase3")
)


def network(build: Build) -> nn.Module:
    """The untrained model in its hardware form."""
    options = {
        "act": build.act,
        "form": "hardware",
        "weight_bits": build.bits,
        "weight_scale": build.scale,
    }
    torch.manual_seed(0)
    if build.network == "full_alexnet":
        return QuantAlexNet(**options)
    if build.network == "full_resnet18":
        return QuantResNet18(**options)
    if build.network == "alexnet":
        return QuantAlexNet(10, 64, channels=(8, 16, 16, 16, 16), fc=32, **options)
    return QuantResNet18(10, build.network.removeprefix("resnet18_"), base=4, **options)


def trained(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 3) -> nn.Module:
    """The model after a few steps with the soft hinge."""
    swap_quantizers(model, "soft_hinge")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def compared_on(build: Build, images: Tensor) -> Tensor:
    """Real images, a random one, zeros, and the input quantizer's rounding ties."""
    shape = images.shape[1:]
    ties = (torch.arange(shape.numel()) % 258 - 129 + 0.5) / 32
    random = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    return torch.cat(
        [images[: build.images], random, torch.zeros(1, *shape), ties.reshape(1, *shape)]
    )


def run(build: Build, images: Tensor, labels: Tensor, folder: Path) -> dict:
    """Build one network in ``folder``; its first images train it, the rest compare it."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    _, fps = SIZES[build.network]
    few = 4 if build.network.startswith("full") else TRAINED_ON
    model = trained(network(build), images[:few], labels[:few])
    batch = compared_on(build, images[few:])
    report = export_finn(
        model,
        batch[:1],
        folder,
        fpga_part=PART,
        target_fps=fps,
        batch=batch,
        dynamo=build.dynamo,
        overwrite=True,
        progress=False,
    )
    return {
        **asdict(build),
        "steps": len(report.steps),
        "seconds": time.perf_counter() - started,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "compared": sum(step.compared for step in report.steps),
        "mismatches": report.mismatches + sum(step.wrong_outputs for step in report.steps),
        "excused": report.excused,
        "same_class": min(step.same_class for step in report.steps),
        "compared_images": len(batch),
        "classes": len(labels[few : few + build.images].unique()),
        "software_nodes": report.steps[-1].software_nodes,
        "untracked": [name for step in report.steps for name in step.untracked],
        "resources": report.resources,
        "fps": report.performance["estimated_throughput_fps"],
    }


def real_images(folder: Path, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Images spread over the folder's classes, normalized, with their labels."""
    transform = Compose(
        [
            ToImage(),
            Resize((size, size)),
            ToDtype(torch.float32, scale=True),
            Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    dataset = ImageFolder(folder, transform)
    # A step that is prime to the number of images visits the classes in turn.
    chosen = Subset(dataset, [index * 7919 % len(dataset) for index in range(count)])
    images, labels = next(iter(DataLoader(chosen, batch_size=count)))
    return images, labels


def in_a_process_of_its_own(build: Build, images: Path, out: Path) -> dict:
    size, _ = SIZES[build.network]
    return run(build, *real_images(images, size, TRAINED_ON + build.images), out / build.name)


def table(rows: Sequence[dict]) -> str:
    """The builds as a Markdown table."""
    columns = (
        "network", "act", "weights", "exporter", "seconds", "peak GB", "images", "integers",
        "different", "excused", "LUT", "BRAM18", "DSP", "frames/s",
    )  # fmt: skip
    lines = [
        (
            r["network"],
            r["act"],
            f"{r['bits']} bit, {r['scale']}",
            "dynamo" if r["dynamo"] else "TorchScript",
            f"{r['seconds']:.0f}",
            f"{r['peak_gb']:.1f}",
            *(r[name] for name in ("compared_images", "compared", "mismatches", "excused")),
            *(f"{r['resources'][name]:.0f}" for name in ("LUT", "BRAM_18K", "DSP")),
            f"{r['fps']:.0f}",
        )
        for r in rows
    ]
    return "\n".join(markdown_table(columns, lines))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="a folder for each class")
    parser.add_argument("--out", type=Path, default=Path("finn_builds"))
    parser.add_argument("--full", action="store_true", help="the full-size networks")
    parser.add_argument("--jobs", type=int, default=1, help="builds at a time")
    cluster.add_argument(parser)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "builds.json"
    done = json.loads(file.read_text()) if file.is_file() else {}
    builds = FULL if arguments.full else NARROW
    try:
        pool = cluster.pool(arguments.cluster, arguments.jobs)
    except ValueError as error:
        parser.error(str(error))
    with pool:
        running = {
            pool.submit(in_a_process_of_its_own, build, arguments.images, arguments.out): build
            for build in builds
            if build.name not in done
        }
        for future in as_completed(running):
            done[running[future].name] = future.result()
            with output_file(file, overwrite=True) as stream:
                stream.write(json.dumps(done, indent=2).encode())
            print(f"{running[future].name}: done", flush=True)
    print(table([done[build.name] for build in builds]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
