"""Which files are images, what their bytes are, and which class each is of."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchvision", reason="needs the extra 'cli'")

from brevitas_ftprop.runs.image_files import (
    decode,
    image_files,
    left_out,
    read_labels,
    shape_of,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def write_png_of_16_bits(file: Path, pixels: np.ndarray) -> None:
    """RGB, by the PNG specification: Pillow writes none."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_of_16_bits_a_channel_the_upper_eight_are_the_byte(tmp_path):
    lower = np.random.default_rng(1).integers(0, 256, PIXELS.shape)
    write_png_of_16_bits(tmp_path / "rgb.png", PIXELS.astype(np.uint16) * 256 + lower)
    assert torch.equal(decode(tmp_path / "rgb.png"), as_tensor(PIXELS))
    grey = PIXELS[..., 0].astype(np.uint16) * 256 + lower[..., 0].astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    expected = as_tensor(PIXELS[..., :1]).expand(3, -1, -1)
    assert torch.equal(decode(tmp_path / "grey.png"), expected)
    assert shape_of(tmp_path / "grey.png") == (1, 6, 5)


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".png", ".ppm", ".tif", ".TIFF", ".webp"])
def test_a_file_of_every_kind_gives_its_pixels(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    few_colors = PIXELS // 128 * 255
    Image.fromarray(few_colors).save(file, **({"lossless": True} if suffix == ".webp" else {}))
    assert torch.equal(decode(file), as_tensor(few_colors))
    assert shape_of(file) == (3, 6, 5)
    assert image_files(tmp_path) == [file]


def test_grey_files_have_one_channel(tmp_path):
    for suffix in (".pgm", ".tif", ".png"):
        file = tmp_path / f"a{suffix}"
        Image.fromarray(PIXELS[..., 0]).save(file)
        assert shape_of(file) == (1, 6, 5)
        assert torch.equal(decode(file), as_tensor(PIXELS[..., :1]).expand(3, -1, -1))


def test_what_holds_no_bytes_or_many_images_is_named(tmp_path):
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"deep\.tif cannot be decoded: its pixels are no bytes"):
        decode(tmp_path / "deep.tif")
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    for read in (decode, shape_of):
        with pytest.raises(ValueError, match=r"two\.gif is an animation of 2 images"):
            read(tmp_path / "two.gif")
    (tmp_path / "torn.bmp").write_bytes(b"BM")
    with pytest.raises(ValueError, match=r"torn\.bmp cannot be decoded"):
        decode(tmp_path / "torn.bmp")


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """Two classes, one a link to elsewhere, the other with the name of a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cat.png", "elsewhere"):
        Path(name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(PIXELS).save(f"{name}/{number}.png")
    Path("photos/dog").symlink_to(tmp_path / "elsewhere")
    return Path("photos")


def test_links_are_gone_into_and_folders_are_no_files(classes):
    from torchvision.datasets import ImageFolder

    files = image_files(classes)
    expected = ImageFolder(classes)
    assert [str(file) for file in files] == [path for path, _ in expected.samples]
    assert read_labels(classes, files, 4).tolist() == expected.targets == [0, 0, 1, 1]
    assert left_out(classes) == ""


def test_labels_and_images_may_be_named_in_two_ways(classes):
    Path("link").symlink_to("photos")
    Path("cats").symlink_to(classes / "cat.png")
    names = (classes, classes.absolute(), Path("link"), Path("elsewhere/../photos"))
    for batch in names:
        for labels in names:
            assert read_labels(labels, image_files(batch), 4).tolist() == [0, 0, 1, 1]
    assert read_labels(classes, image_files(Path("cats")), 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="do not lie in a subfolder of photos"):
        read_labels(classes, image_files(Path("elsewhere")), 2)


def test_what_is_left_out_is_counted(classes):
    Path("photos/dog/notes.txt").touch()
    assert left_out(classes) == "left out: 1 file that is no image: .txt"
    for name in ("Thumbs.db", ".DS_Store", "a.psd", "b.raw", "c.xcf"):
        (classes / name).touch()
    assert left_out(classes) == (
        "left out: 6 files that are no images: .DS_Store, .db, .psd, .raw and 2 more"
    )
    assert left_out(classes / "cat.png", Path("elsewhere")).startswith("left out: 1 file")


def test_no_images_are_told_with_what_would_be_some(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no image files: \.bmp"):
        image_files(tmp_path)
