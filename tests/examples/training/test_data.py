"""Which images a step sees, and what is said where they are missing."""

from __future__ import annotations

import gc
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.io import write_jpeg
from torchvision.transforms import v2

pytest.importorskip("jsonargparse", reason="needs the extra 'examples'")

from training import Data, Recipe, TrainingError
from training.data import Images
from training.data.imagenet import evaluation_transform, training_transform
from training.data.loader import EvaluationLoader, TrainingLoader
from training.data.order import EpochOrder, chosen, uniform_draws
from training.data.resident import crop_and_flip
from training.data.streamed import StreamedImages

pytestmark = pytest.mark.heavy


def order(*, parts=1, rank=0, devices=1, seed=0, epoch=0, count=50) -> np.ndarray:
    result = EpochOrder(
        np.arange(100, 100 + count), seed, step=12, parts=parts, rank=rank, devices=devices
    )
    result.set_epoch(epoch)
    return result.batches()


def indices_of(_, batches):
    return [np.asarray(batch) for batch in batches]


@pytest.mark.parametrize(("parts", "devices"), [(1, 1), (3, 1), (1, 2), (2, 3), (1, 12)])
def test_a_step_sees_the_same_images_on_any_devices_and_in_any_parts(parts, devices):
    whole = order()
    shares = np.stack([order(parts=parts, rank=r, devices=devices) for r in range(devices)])
    per_step = shares.reshape(devices, 4, -1).transpose(1, 0, 2).reshape(4, -1)
    np.testing.assert_array_equal(np.sort(per_step, axis=1), np.sort(whole, axis=1))


def test_an_epoch_sees_no_image_twice_and_another_epoch_or_seed_another_order():
    assert len(np.unique(order())) == order().size == 48
    assert not np.array_equal(order(), order(epoch=1))
    assert not np.array_equal(order(), order(seed=1))
    np.testing.assert_array_equal(order(epoch=3), order(epoch=3))


def test_the_chosen_images_do_not_depend_on_each_others_number():
    train, held_out = chosen(1000, 300, 100)
    assert not set(train) & set(held_out)
    np.testing.assert_array_equal(chosen(1000, 300, 0)[0], train)
    np.testing.assert_array_equal(chosen(1000, None, 100)[1], held_out)
    assert len(chosen(1000, None, 100)[0]) == 900


def test_an_images_draws_depend_on_seed_epoch_and_index_alone():
    few, many = uniform_draws(1, 2, 10, 3), uniform_draws(1, 2, 1000, 3)
    torch.testing.assert_close(few, many[:10], rtol=0, atol=0)
    assert not torch.equal(few, uniform_draws(1, 3, 10, 3))
    assert not torch.equal(few, uniform_draws(2, 2, 10, 3))


def test_crops_and_flips_are_torchvisions():
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    draws = torch.rand(6, 3)
    result = crop_and_flip(images, draws, 2, flip=True)
    for image, (y, x, mirror), got in zip(images, draws.tolist(), result, strict=True):
        padded = v2.functional.pad(image, [2])
        crop = v2.functional.crop(padded, int(y * 5), int(x * 5), 8, 8)
        expected = v2.functional.horizontal_flip(crop) if mirror < 0.5 else crop
        assert torch.equal(got, expected)


@pytest.mark.parametrize("seen", [0, 1, 3])
def test_a_loader_goes_on_where_it_was(seen):
    def loader():
        return TrainingLoader(
            EpochOrder(np.arange(48), 0, step=12, parts=1, rank=0, devices=1), indices_of
        )

    first = loader()
    batches = iter(first)
    whole = [next(batches) for _ in range(seen)]
    second = loader()
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(np.concatenate([*whole, *second]), np.concatenate([*loader()]))
    # The next epoch is whole again.
    assert len(list(second)) == len(second) == 4


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_evaluation_sees_each_image_once_in_as_many_batches_on_each_device(devices):
    loaders = [
        EvaluationLoader(np.arange(13), indices_of, batch=4, rank=rank, devices=devices)
        for rank in range(devices)
    ]
    seen = [list(loader) for loader in loaders]
    assert {len(batches) for batches in seen} == {len(loaders[0])}
    assert sorted(np.concatenate([b for batches in seen for b in batches])) == list(range(13))


@pytest.fixture
def folder(tmp_path):
    """Two classes of four JPEGs of 24×20 pixels each, in train, val and test."""
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8)
                write_jpeg(pixels, str(tmp_path / part / name / f"{number}.jpg"))
    return tmp_path


@pytest.fixture(autouse=True)
def workers_that_cannot_end_are_ended(monkeypatch):
    """Forked from a process of many threads, a worker may wait at its exit for one it has not."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
    yield
    # Ends those of loaders that nobody holds any more.
    gc.collect()


@pytest.mark.parametrize("resized_crop", [False, True])
def test_streamed_images_do_not_depend_on_the_workers(folder, resized_crop):
    data = Data(name="imagenet", image_size=16, resize=18, resized_crop=resized_crop)
    batches = [np.array([5, 2]), np.array([7, 0])]

    def images(workers, epoch=1):
        torch.manual_seed(workers)
        streamed = StreamedImages(
            ImageFolder(folder / "train"),
            training_transform(data),
            16,
            seed=0,
            workers=workers,
            pin=False,
        )
        return torch.cat([images for images, _ in streamed.fetch(epoch, batches)])

    assert images(0).shape == (4, 3, 16, 16)
    assert torch.equal(images(0), images(2))
    assert not torch.equal(images(0), images(0, epoch=2))
    assert evaluation_transform(data)(torch.zeros(3, 20, 24)).shape == (3, 16, 16)


def attached(recipe: Recipe, workers: int = 0) -> Images:
    """A data module as it stands within a trainer."""
    images = Images(recipe, workers)
    images.trainer = SimpleNamespace(
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return images


def test_image_files_are_resized_only_when_asked(folder):
    recipe = Recipe(data=Data(name="image_folder", root=str(folder), image_size=16), batch_size=2)
    with pytest.raises(TrainingError, match=r"\.jpg is 24×20, but the network sees 16×16"):
        Images(recipe).fingerprint()
    asked = recipe.with_overrides(data__resized=True)
    assert "resized from 24×20" in Images(asked).summary()


@pytest.mark.parametrize("name", ["image_folder", "imagenet"])
def test_image_folders_are_read_at_the_wanted_size(folder, name):
    data = Data(
        name=name, root=str(folder), image_size=16, resize=16, resized=True, validation_images=2
    )
    images = attached(Recipe(data=data, batch_size=2))
    assert (images.classes, images.counts) == (2, {"train": 6, "validation": 2, "test": 8})
    batch = next(iter(images.train_dataloader()))
    pixels, labels = images.on_after_batch_transfer(batch, 0)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 16, 16), torch.float32)
    assert labels.dtype == torch.int64
    validation, test = (list(loader) for loader in images.val_dataloader())
    assert (len(validation[0][1]), len(test[0][1])) == (2, 8)


@pytest.mark.parametrize("name", ["image_folder", "imagenet"])
def test_of_16_bits_a_channel_the_upper_eight_are_trained_on(folder, name):
    grey = np.random.default_rng(0).integers(0, 2**16, (20, 24), dtype=np.uint16)
    for part in ("train", "test", "val"):
        for number in range(4):
            Image.fromarray(grey).save(folder / part / "cat" / f"{number}.png")
            (folder / part / "cat" / f"{number}.jpg").unlink()
    data = Data(name=name, root=str(folder), image_size=(20, 24), resize=24, flip=False)
    images = attached(Recipe(data=data, batch_size=2))
    fetched = images.test_dataloader()
    (pixels, labels), *_ = list(fetched)
    assert labels[:4].tolist() == [0] * 4
    assert pixels.dtype == torch.uint8
    if name == "image_folder":
        expected = torch.from_numpy((grey // 256).astype(np.uint8)).expand(3, -1, -1)
        assert all(torch.equal(image, expected) for image in pixels[:4])
    else:
        # Resized, which keeps the mean.
        assert abs(pixels[:4].float().mean() - (grey // 256).mean()) < 3


def test_what_is_no_image_is_left_out_and_counted(folder):
    for part, name in (("train", "notes.txt"), ("train", "more.TXT"), ("test", "a.psd")):
        (folder / part / "cat" / name).touch()
    (folder / "train" / "cat" / "0.jpg").unlink()
    bitmap = Image.fromarray(np.zeros((20, 24, 3), np.uint8))
    bitmap.save(folder / "train" / "cat" / "0.bmp")
    data = Data(name="image_folder", root=str(folder), image_size=(20, 24))
    images = Images(Recipe(data=data, batch_size=2))
    assert images.counts["train"] == 8
    assert images.summary().splitlines() == [
        "data image_folder: 8 train, 8 test, 2 classes, 3×20×24",
        "left out: 3 files that are no images: .TXT, .psd, .txt",
    ]
    assert not images.set.train.decode(np.array([0])).any()


@pytest.mark.parametrize(
    ("name", "workers"), [("image_folder", 0), ("imagenet", 0), ("imagenet", 2)]
)
def test_a_file_that_is_cut_off_is_named_in_one_line(folder, name, workers):
    file = folder / "train" / "dog" / "2.jpg"
    file.write_bytes(file.read_bytes()[:300])
    data = Data(name=name, root=str(folder), image_size=16, resize=16, resized=True)
    images = attached(Recipe(data=data, batch_size=2), workers)
    with pytest.raises(TrainingError, match=rf"^{file} cannot be decoded: .+\Z"):
        list(images.train_dataloader())


@pytest.mark.parametrize("name", ["image_folder", "imagenet"])
def test_other_images_of_the_same_number_have_another_hash(folder, name):
    data = Data(name=name, root=str(folder), image_size=10, resized=True)
    before = Images(Recipe(data=data, batch_size=1)).fingerprint()
    assert Images(Recipe(data=data, batch_size=1, seed=1)).fingerprint() == before
    write_jpeg(torch.zeros(3, 20, 24, dtype=torch.uint8), str(folder / "train" / "cat" / "0.jpg"))
    assert Images(Recipe(data=data, batch_size=1)).fingerprint() != before


def test_cifar10_is_read_as_torchvision_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for number, name in enumerate(names):
        pixels = np.full((4, 3072), number, dtype=np.uint8)
        (root / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 2, 3]}))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    images = attached(Recipe(data=Data(root=str(tmp_path), crop_padding=0), batch_size=20))
    assert images.counts == {"train": 20, "validation": 0, "test": 4}
    pixels, _ = next(iter(images.train_dataloader()))
    assert sorted(pixels[:, 0, 0, 0].tolist()) == [n for n in range(5) for _ in range(4)]


def test_normalized_images_have_the_mean_and_deviation_taken_off():
    data = Data(name="random", train_images=8, mean=[0.5, 0.25, 0.0], std=[0.5, 1.0, 0.25])
    images = attached(Recipe(data=data, batch_size=8))
    ones = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    pixels, _ = images.on_after_batch_transfer((ones, torch.zeros(1)), 0)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 0.75, 4.0]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "mnist"}, "unknown data 'mnist'; valid are cifar10, digits"),
        ({"name": "cifar10"}, "needs --data.root"),
        ({"name": "cifar10", "root": "/nowhere"}, "there is no folder /nowhere"),
        ({"name": "imagenet", "root": "/nowhere"}, "needs --data.root"),
        ({"name": "random", "mean": [0.5]}, "must have 3 values"),
        ({"name": "digits", "classes": 100}, "data.classes is 100, but data 'digits' has 10"),
        ({"name": "digits", "train_images": 2000}, "want 2000 images of 1437"),
        ({"name": "digits", "train_images": 32}, "batch_size 64 is more than the 32 images"),
    ],
)
def test_data_that_are_not_there_or_do_not_fit_are_told(data, message):
    with pytest.raises(TrainingError, match=message):
        Images(Recipe(data=Data(**data)))


def test_a_folder_without_images_says_what_is_expected_there(tmp_path, folder):
    recipe = Recipe(data=Data(name="cifar10", root=str(tmp_path)))
    with pytest.raises(TrainingError, match=r"no cifar-10-batches-py in .*image_folder"):
        Images(recipe)
    (folder / "test").rename(folder / "other")
    (folder / "val").rename(folder / "more")
    recipe = Recipe(data=Data(name="image_folder", root=str(folder)))
    with pytest.raises(TrainingError, match="there is no folder test or val in"):
        Images(recipe)
