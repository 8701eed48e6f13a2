"""A file is whole or absent, and nobody else's is replaced."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import brevitas.nn as qnn
import pytest
import torch

from brevitas_ftprop import export_qcdq, export_qonnx
from brevitas_ftprop.export.checks import check_path
from brevitas_ftprop.export.output_file import output_file
from tests.export.test_output_folder import run_at_the_same_time

EXPORTS = (export_qcdq, export_qonnx)


def small(**options):
    layer = qnn.QuantLinear(4, 3, bias=False)
    return torch.nn.Sequential(qnn.QuantIdentity(), layer, **options).eval()


def write(path, text, *, overwrite=False):
    with output_file(check_path(path, overwrite=overwrite), overwrite=overwrite) as stream:
        stream.write(text)


class Meddled(torch.nn.Sequential):
    """While it is traced, somebody writes a file."""

    somebodys: Path

    def forward(self, x):
        self.somebodys.write_text("somebody's")
        return super().forward(x)


@pytest.mark.parametrize("export", EXPORTS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_during_the_export_is_replaced_only_on_request(
    tmp_path, export, overwrite
):
    model = Meddled(*small())
    path = model.somebodys = tmp_path / "net.onnx"
    options = {"dynamo": False, "overwrite": overwrite}
    if overwrite:
        export(model, torch.zeros(1, 4), path, **options)
        assert b"brevitas_ftprop" in path.read_bytes()
    else:
        with pytest.raises(FileExistsError, match="overwrite=True"):
            export(model, torch.zeros(1, 4), path, **options)
        assert path.read_text() == "somebody's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def export_at_once(start, results, index, path):
    torch.set_num_threads(1)
    model = small()
    start.wait()
    try:
        results.put(export_qcdq(model, torch.zeros(1, 4), path, dynamo=False).name)
    except FileExistsError:
        results.put(None)


def test_of_two_exports_to_one_path_one_succeeds_and_one_is_refused(tmp_path):
    found = run_at_the_same_time(export_at_once, 2, tmp_path / "net.onnx")
    assert sorted(found, key=str) == [None, "net.onnx"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def write_at_once(start, results, index, folder):
    for attempt in range(200):
        start.wait()
        try:
            with output_file(folder / str(attempt), overwrite=False) as stream:
                stream.write(str(index).encode() * 1000)
        except FileExistsError:
            pass
        else:
            results.put((attempt, index))
    results.put(None)


def test_of_processes_that_write_one_file_one_succeeds(tmp_path):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    runs = [
        context.Process(target=write_at_once, args=(start, results, index, tmp_path))
        for index in range(3)
    ]
    for run in runs:
        run.start()
    wrote, ended = {}, 0
    while ended < 3:
        found = results.get(timeout=60)
        if found is None:
            ended += 1
        else:
            attempt, index = found
            assert attempt not in wrote
            wrote[attempt] = index
    for run in runs:
        run.join()
    assert len(wrote) == len(list(tmp_path.iterdir())) == 200
    for attempt, index in wrote.items():
        assert (tmp_path / str(attempt)).read_bytes() == str(index).encode() * 1000


def test_a_file_system_without_links_gets_the_same_promises(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "new", b"whole")
    assert (tmp_path / "new").read_bytes() == b"whole"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_late(tmp_path / "late")
    assert (tmp_path / "late").read_text() == "somebody's"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["late", "new"]


def write_late(path):
    with output_file(path, overwrite=False) as stream:
        stream.write(b"ours")
        path.write_text("somebody's")


@pytest.mark.parametrize("length", [1, 100, 245, 246, 255])
def test_names_of_every_length_are_written(tmp_path, length):
    write(tmp_path / ("n" * length), b"whole")
    write(tmp_path / ("n" * length), b"again", overwrite=True)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"again"]
    wide = "ü" * (length // 2)
    if wide:
        write(tmp_path / wide, b"whole")


def test_a_longer_name_is_refused_before_the_export(tmp_path):
    for name in ("n" * 256, "ü" * 128):
        with pytest.raises(OSError, match=r"longer than the 255 bytes|too long"):
            check_path(tmp_path / name, overwrite=False)


def test_a_loop_of_links_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    (tmp_path / "self").symlink_to("self")
    for name in ("one", "self"):
        for overwrite in (False, True):
            with pytest.raises(FileExistsError, match="symbolic link that leads back to itself"):
                check_path(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "one").is_symlink()


def test_a_link_to_a_free_name_is_written_where_it_leads(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", b"whole")
    assert (tmp_path / "real").read_bytes() == b"whole"
    assert (tmp_path / "link").is_symlink()


def fail(path):
    with output_file(path, overwrite=True) as stream:
        stream.write(b"half")
        raise RuntimeError("disk full")


def test_a_failed_block_leaves_what_was_there(tmp_path):
    write(tmp_path / "file", b"old")
    with pytest.raises(RuntimeError, match="disk full"):
        fail(tmp_path / "file")
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


def test_new_files_have_the_permissions_of_new_files_and_replaced_ones_keep_theirs(tmp_path):
    write(tmp_path / "file", b"new")
    (tmp_path / "plain").touch()
    mode = stat.S_IMODE((tmp_path / "file").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "file").chmod(0o640)
    write(tmp_path / "file", b"again", overwrite=True)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
