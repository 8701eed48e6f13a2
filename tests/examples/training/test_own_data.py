"""Data of the user's own: read as they are, told of, and resized only when asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

import train
from training import Data, Recipe, Result, TrainingError
from training.data import Images

from brevitas_ftprop import load_run

OWN = """
import numpy as np
from PIL import Image


def pixels(seed, count, height, width):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def noise(height=30, width=40, count=60):
    train, test = (pixels(seed, n, height, width) for seed, n in ((0, count), (1, 20)))
    return tuple([(Image.fromarray(p), i % 4) for i, p in enumerate(of)] for of in (train, test))
"""
QUIET = ["--accelerator", "cpu", "--log", "false", "--batch_size", "16"]


@pytest.fixture
def own_data(own_module):
    (own_module.parent / "mydata.py").write_text(OWN)
    yield own_module.parent
    import sys

    sys.modules.pop("mydata", None)


def test_own_images_are_trained_on_and_what_was_found_is_told(own_data, capsys):
    data = ["--data.name", "mydata:noise", "--data.image_size", "8", "--out", "out", *QUIET]
    assert train.main(data) == 2
    told = capsys.readouterr().err
    assert "an image of data mydata:noise is 40×30, but the network sees 8×8" in told
    assert "pass --data.image_size 30,40, or --data.resized true" in told
    assert train.main([*data, "--data.resized", "true", "--resume"]) == 0
    told = capsys.readouterr().out
    assert "data mydata:noise: 60 train, 20 test, 4 classes, 3×8×8, resized from 40×30" in told
    result = Result.read(own_data / "out" / "result.json")
    assert result.images == {"train": 60, "validation": 0, "test": 20}
    wide = ["--model", "tiny_networks:pooled", "--data.image_size", "30,40", "--out", "wide"]
    assert train.main(["--data.name", "mydata:noise", *wide, *QUIET]) == 0
    assert "4 classes, 3×30×40\n" in capsys.readouterr().out
    loaded = load_run(own_data / "wide")
    assert loaded.model(loaded.example).shape == (1, 4)
    assert loaded.shape == (1, 3, 30, 40)
    square = ["--data.name", "mydata:noise", "--data.options", "{height: 8, width: 8}"]
    assert train.main([*square, "--data.image_size", "8", "--out", "square", *QUIET]) == 0
    assert "resized" not in capsys.readouterr().out


def images_of(monkeypatch, *items, **data) -> Images:
    monkeypatch.setattr("tiny_networks.own_data", lambda: (items, items), raising=False)
    section = Data(name="tiny_networks:own_data", image_size=2, **data)
    return Images(Recipe(data=section, batch_size=1))


def test_the_same_pixels_come_out_of_every_form(monkeypatch):
    pixels = torch.tensor([0, 1, 127, 128, 200, 255] * 2, dtype=torch.uint8).reshape(3, 2, 2)
    array = pixels.permute(1, 2, 0).numpy()
    forms = (pixels, array, Image.fromarray(array), pixels / 255, pixels.double() / 255)
    images = images_of(monkeypatch, *((form, 0) for form in forms))
    decoded = images.set.train.decode(np.arange(len(forms)))
    assert decoded.dtype == torch.uint8
    assert all(torch.equal(image, pixels) for image in decoded)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.randn(3, 2, 2), 0), "training image 0 has torch.float32 values that are no k/255"),
        ((torch.zeros(2, 2, 3), 0), "has shape (2, 2, 3), not one or three channels first"),
        (("an image", 0), "training image 0 is a str, no PIL image"),
        ((torch.zeros(3, 2, 2), -1), "training image 0 has the label -1: labels start at 0"),
        (torch.zeros(3, 2, 2), "training image 0 is no (image, label)"),
    ],
)
def test_what_is_no_image_is_told(monkeypatch, item, message):
    with pytest.raises(TrainingError) as told:
        images_of(monkeypatch, item)
    assert message in str(told.value)


def test_a_factory_that_gives_no_datasets_is_told():
    with pytest.raises(TrainingError, match="gives a Clipped: return two datasets"):
        Images(Recipe(data=Data(name="tiny_networks:stateful")))
    with pytest.raises(TrainingError, match=r"unknown data 'cifar'; valid are .* package"):
        Images(Recipe(data=Data(name="cifar")))
