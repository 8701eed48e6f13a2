"""Images a second of the trainer: as a recipe comes, and with what a GPU offers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .check import TRAINER, Check, needs
from .data import data_section

__all__ = ["run"]

EXAMPLES = Path(__file__).resolve().parents[1]
GPU = {"precision": "bf16", "channels_last": True, "cudnn_benchmark": True}
FUSED = {"optimizer__options": {"fused": True}}
VARIANTS: dict[str, dict[str, Any]] = {
    "as the recipe comes": {},
    "fused optimizer": FUSED,
    "bf16, channels last, cudnn.benchmark, fused": GPU | FUSED,
    "the same, reduce-overhead": GPU | FUSED | {"compile": "reduce-overhead"},
}


def run(check: Check) -> None:
    needs(*TRAINER)
    import training

    data = check.case("images", data_section, check)
    if data is None:
        return
    check.note(f"Images: {data['name']}, {data['train_images']} of them, on the device.")
    for batch_size in (32,) if check.small else (64, 512):
        for name, overrides in VARIANTS.items():
            if check.small and overrides not in ({}, FUSED):
                continue
            case = f"{name}, batches of {batch_size}"
            result = check.case(case, trained, check, data, batch_size, overrides, training)
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
