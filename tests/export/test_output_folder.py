"""A folder is whole or absent, and nobody's files are lost."""

from __future__ import annotations

import pytest

from brevitas_ftprop.export.output_folder import check_folder, output_folder


def written(folder, text="new"):
    with output_folder(folder) as unfinished:
        (unfinished / "file").write_text(text)


def failing(folder):
    with output_folder(folder) as unfinished:
        (unfinished / "file").write_text("half")
        raise OSError("disk full")


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with output_folder(tmp_path / "out") as unfinished:
        (unfinished / "file").write_text("new")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_failed_run_keeps_its_files_and_the_folder_of_the_run_before(tmp_path):
    written(tmp_path / "out", "old")
    with pytest.raises(OSError, match="disk full"):
        failing(tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert (tmp_path / "out.unfinished" / "file").read_text() == "half"


def test_the_next_run_replaces_what_an_interrupted_one_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    target = check_folder(tmp_path / "out", overwrite=False)
    written(target)
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert not (tmp_path / "out.unfinished").exists()


def test_two_runs_do_not_write_one_folder(tmp_path):
    with output_folder(tmp_path / "out") as unfinished:
        (unfinished / "file").write_text("first")
        with pytest.raises(FileExistsError, match="another run"):
            check_folder(tmp_path / "out", overwrite=True)
        with pytest.raises(FileExistsError, match="another run"):
            written(tmp_path / "out", "second")
    assert (tmp_path / "out" / "file").read_text() == "first"
    check_folder(tmp_path / "out", overwrite=True)


def test_an_own_folder_is_replaced_only_on_request(tmp_path):
    written(tmp_path / "out", "old")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        check_folder(tmp_path / "out", overwrite=False)
    written(check_folder(tmp_path / "out", overwrite=True))
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_was_added_to_an_own_folder_is_not_lost(tmp_path):
    written(tmp_path / "out", "old")
    (tmp_path / "out" / "build").mkdir()
    with pytest.raises(FileExistsError, match="also holds build, which would be lost"):
        check_folder(tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "build").rmdir()
    written(check_folder(tmp_path / "out", overwrite=True))


@pytest.mark.parametrize("name", ["out", "out.unfinished", "out.replaced"])
def test_a_folder_of_the_user_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="other files"):
        check_folder(tmp_path / "out", overwrite=True)


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    written(check_folder(tmp_path / "out", overwrite=False))
    assert (tmp_path / "out" / "file").is_file()


def test_a_file_in_the_way_and_a_missing_parent_are_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        check_folder(tmp_path / "out", overwrite=True)
    with pytest.raises(FileNotFoundError, match="create it first"):
        check_folder(tmp_path / "missing" / "out", overwrite=True)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written"):
        check_folder(tmp_path / "out", overwrite=False)
