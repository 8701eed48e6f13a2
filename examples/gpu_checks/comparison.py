"""A comparison of rules on all of CIFAR-10, for as long as there is time; it can go on later.

Finished runs are kept in one file of the report's folder, from which a later call, on this machine
or another, goes on; runs that were cut off go on from their checkpoints in the folder for work.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from brevitas_ftprop.export.output_file import output_file

from .check import TRAINER, Check, Unavailable, needs
from .data import data_section

EXAMPLES = Path(__file__).resolve().parents[1]
RECIPE = EXAMPLES / "recipes" / "convnet8_gpu.yaml"
KEPT = "comparison.zip"
ACTS, RULES = ("sign", "staircase3"), ("saturated_ste", "soft_hinge")
# What a run takes of a card beside its context: images, weights, activations of a batch.
BYTES = 2 * 2**30
# Seconds of a run until its first step, and how much faster many runs are than one alone, both
# guessed with care: a run that is cut off tells no accuracy.
STARTING, SHARED = 35.0, 1.5
IMAGES, MOST = 50_000, 30
# Seconds to end processes and to read what they left.
ENDING = 4.0


def run(check: Check) -> None:
    needs(*TRAINER, "matplotlib", "scipy")
    check.case("comparison", compare, check)


def compare(check: Check) -> None:
    folder = check.work / "comparison"
    unpack(check.out / KEPT, folder)
    data = data_section(check, IMAGES)
    if data["name"] == "random" and not check.small:
        raise Unavailable("needs CIFAR-10: --data")
    jobs = 1 if check.small else jobs_at_a_time()
    acts = ACTS[:1] if check.small else ACTS
    # As many seeds as run at once; more of them than the time allows would all be cut off.
    seeds = max(1, jobs // (len(ACTS) * len(RULES)))
    epochs = 1 if check.small else epochs_of(check, folder, len(ACTS) * len(RULES) * seeds)
    written = recipe(check, data, epochs)
    command = [sys.executable, str(EXAMPLES / "compare.py"), str(written)]
    command += ["--acts", *acts, "--rules", *RULES, "--seeds", str(seeds), "--jobs", str(jobs)]
    command += ["--accelerator", "cpu" if check.small else "gpu", "--devices", "1"]
    process = subprocess.Popen([*command, "--out", str(folder)], stdout=sys.stderr)
    end = check.hard - ENDING
    try:
        code = process.wait(max(0.0, end - time.time()))
    except subprocess.TimeoutExpired:
        code = None
        # Its runs are ended with this process.
        process.terminate()
    results = pack(folder, check.out / KEPT)
    tell(results, len(acts) * len(RULES) * seeds, check)
    if code not in (None, 0):
        raise RuntimeError(f"compare.py ended with code {code}: see the log")


def jobs_at_a_time() -> int:
    """How many runs the card and the host take."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    arms = len(ACTS) * len(RULES)
    jobs = min(free // BYTES, os.cpu_count() or arms)
    return max(arms, int(jobs) // arms * arms)


def epochs_of(check: Check, folder: Path, runs: int) -> int:
    """As many as should fit by what the trainer has measured; those of runs to go on with."""
    for file in (*folder.glob("runs/*/result.json"), *folder.glob("runs/*/recipe.yaml")):
        return int(re.search(r'"?epochs"?: (\d+)', file.read_text())[1])
    seconds = check.hard - ENDING - STARTING - time.time()
    images = seconds * SHARED * trainer_speed(check.out / "report.json")
    return int(min(MOST, max(1, images // (runs * IMAGES))))


def trainer_speed(report: Path) -> float:
    """Images a second of the fastest way that the trainer's part has found."""
    parts = json.loads(report.read_text())["parts"] if report.is_file() else []
    tables = [part["tables"] for part in parts if part["name"] == "trainer"]
    rows = [row for part in tables for of_table in part.values() for row in of_table]
    return max([row["images/s"] for row in rows], default=0.0)


def recipe(check: Check, data: dict[str, Any], epochs: int) -> Path:
    """The recipe of all runs, with this machine's images."""
    import yaml

    values = yaml.safe_load(RECIPE.read_text()) | {"data": data, "epochs": epochs}
    if check.small:
        # What a GPU is given a recipe for takes a CPU longer.
        values |= {"batch_size": 32, "precision": "32"}
        values["model_options"] = {"channels": [4, 4, 4, 4, 4, 4, 8]}
    path = check.work / "comparison.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def unpack(kept: Path, folder: Path) -> None:
    """Results of earlier calls, where they are not there already."""
    if kept.is_file():
        with zipfile.ZipFile(kept) as archive:
            for name in archive.namelist():
                if not (folder / name).exists():
                    archive.extract(name, folder)


def pack(folder: Path, kept: Path) -> list[dict[str, Any]]:
    """Keep the results of all finished runs in one file, and read them."""
    files = sorted(folder.glob("runs/*/result.json"))
    with (
        output_file(kept, overwrite=True) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in files:
            archive.write(file, file.relative_to(folder))
    return [json.loads(file.read_text()) for file in files]


def tell(results: list[dict[str, Any]], wanted: int, check: Check) -> None:
    """A row for each arm, and how much of it is done."""
    arms: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        arms[result["recipe"]["act"], result["recipe"]["rule"]].append(result)
    for (act, rule), of_arm in sorted(arms.items()):
        accuracies = [100 * result["test_accuracy"] for result in of_arm]
        check.row(
            "ConvNet8, test accuracy %",
            activations=act,
            rule=rule,
            seeds=len(accuracies),
            mean=statistics.mean(accuracies),
            lowest=min(accuracies),
            highest=max(accuracies),
            epochs=of_arm[0]["recipe"]["epochs"],
            **{"images/s of a run": statistics.mean(r["images_per_second"] for r in of_arm)},
        )
    check.note(
        f"{len(results)} of {wanted} runs are done; the same command with this --out goes on with "
        "the rest."
    )
