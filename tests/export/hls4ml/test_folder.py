"""Folders are written whole or not at all, and only our own are replaced."""

from __future__ import annotations

import os

import pytest

from brevitas_ftprop.export.hls4ml.folder import REPORT, check_folder, replacing_folder


def test_a_failed_block_leaves_what_was_there(tmp_path):
    target = tmp_path / "project"
    target.mkdir()
    (target / "old").touch()

    def interrupted() -> None:
        with replacing_folder(target) as folder:
            (folder / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    assert [path.name for path in target.iterdir()] == ["old"]


def test_a_finished_block_replaces_the_folder(tmp_path):
    target = tmp_path / "project"
    target.mkdir()
    (target / "old").touch()
    with replacing_folder(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_an_existing_project_is_replaced_only_on_demand(tmp_path):
    (tmp_path / REPORT).touch()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        check_folder(tmp_path, overwrite=False)
    assert check_folder(tmp_path, overwrite=True) == tmp_path


def test_a_folder_that_no_export_wrote_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="was not written by an export"):
        check_folder(tmp_path, overwrite=True)


def test_an_empty_folder_may_be_used(tmp_path):
    assert check_folder(tmp_path, overwrite=False) == tmp_path


def test_a_file_and_a_missing_parent_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        check_folder(tmp_path / "file", overwrite=True)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_folder(tmp_path / "missing" / "project", overwrite=False)


def test_a_parent_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written"):
        check_folder(tmp_path / "project", overwrite=False)
