"""Images a second of the trainer: as a recipe comes, and with what a GPU offers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .check import TRAINER, Check, needs
from .data import data_section

EXAMPLES = Path(__file__).resolve().parents[1]
GPU = {"precision": "bf16", "channels_last": True, "cudnn_benchmark": True}
FUSED = {"optimizer__options": {"fused": True}}
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "fused": FUSED,
    "GPU": GPU | FUSED,
    "GPU, reduce-overhead": GPU | FUSED | {"compile": "reduce-overhead"},
}
RUNS = (
    ("recipe", 64),
    ("GPU", 512),
    ("GPU", 64),
    ("GPU, reduce-overhead", 64),
    ("fused", 64),
    ("recipe", 512),
)
IN_SMALL = (("recipe", 32), ("fused", 32))
# Each run decodes them anew.
IMAGES = 20_000


def run(check: Check) -> None:
    """A row for each way to train; ``GPU`` is bfloat16, channels last, cudnn.benchmark, fused."""
    needs(*TRAINER)
    import training

    data = data_section(check, IMAGES)
    check.note(f"Images: {data['name']}, {data['train_images']} of them, kept on the device.")
    for name, batch_size in IN_SMALL if check.small else RUNS:
        case = f"{name}, batches of {batch_size}"
        result = check.case(case, trained, check, data, batch_size, VARIANTS[name], training)
        if result is not None:
            check.row(
                "ConvNet8, sign, soft hinge",
                options=name,
                **{"batch size": batch_size, "images/s": result.images_per_second},
            )


def trained(
    check: Check,
    data: Mapping[str, Any],
    batch_size: int,
    overrides: Mapping[str, Any],
    training: Any,
) -> Any:
    """Train two epochs, of which the second is timed."""
    recipe = training.load_recipe(
        EXAMPLES / "recipes" / "convnet8_sign_ftp_sh.yaml",
        data=training.Data(**data),
        schedule=training.Schedule(),
        batch_size=batch_size,
        epochs=2,
        test="never",
        **(narrow() if check.small else {}),
    ).with_overrides(**overrides)
    folder = check.work / "trainer"
    shutil.rmtree(folder, ignore_errors=True)
    how = training.Run(
        accelerator="cpu" if check.small else "gpu", progress=False, log=False, threads=1
    )
    try:
        return training.train(recipe, folder, how)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def narrow() -> dict[str, Any]:
    return {"model_options": {"channels": [4, 4, 4, 4, 4, 4, 8]}}
