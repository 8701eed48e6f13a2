"""A folder is whole or absent, and nobody's files are lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pytest

from brevitas_ftprop.export.output_folder import MARK, check_folder, output_folder


def written(folder, text="new"):
    with output_folder(folder, overwrite=True) as unfinished:
        (unfinished / "file").write_text(text)


def failing(folder):
    with output_folder(folder, overwrite=True) as unfinished:
        (unfinished / "file").write_text("half")
        raise OSError("disk full")


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with output_folder(tmp_path / "out", overwrite=False) as unfinished:
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
    with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "out", overwrite=False):
        raise KeyboardInterrupt
    target = check_folder(tmp_path / "out", overwrite=False)
    written(target)
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert not (tmp_path / "out.unfinished").exists()


def test_two_runs_do_not_write_one_folder(tmp_path):
    with output_folder(tmp_path / "out", overwrite=False) as unfinished:
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


def states(folder):
    """The mark on the disk at each renaming of a block that writes ``folder``."""
    seen = []
    rename = type(folder).rename

    def watched(source, target):
        if (source / MARK).is_file():
            seen.append((source.name, (source / MARK).read_text()))
        return rename(source, target)

    return seen, watched


def test_the_mark_is_whole_before_anything_is_renamed(tmp_path, monkeypatch):
    out = tmp_path / "out"
    seen, watched = states(out)
    monkeypatch.setattr(type(out), "rename", watched)
    written(out, "old")
    written(out, "new")
    assert len(seen) == 5
    for name, mark in seen:
        listed = json.loads(mark)
        assert listed == ([MARK, "file"] if name.startswith("out") else [])


@pytest.mark.parametrize("torn", ["", "[", '[".brevitas_ftprop", "fi', "file\n", "{}", "\x00" * 9])
def test_a_folder_with_an_empty_or_torn_mark_is_not_ours(tmp_path, torn):
    written(tmp_path / "out", "old")
    (tmp_path / "out" / MARK).write_text(torn)
    with pytest.raises(FileExistsError, match="other files"):
        check_folder(tmp_path / "out", overwrite=True)
    with pytest.raises(FileExistsError, match="other files"):
        written(tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "old"


def written_beside(out, somebodys, *, overwrite):
    folder = check_folder(out, overwrite=overwrite)
    with output_folder(folder, overwrite=overwrite) as unfinished:
        (unfinished / "file").write_text("new")
        somebodys.parent.mkdir(exist_ok=True)
        somebodys.write_text("somebody's")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_appears_meanwhile_is_not_replaced(tmp_path, kind, overwrite):
    out = tmp_path / "out"
    somebodys = out / "thesis.tex" if kind == "folder" else out
    with pytest.raises(FileExistsError, match="out"):
        written_beside(out, somebodys, overwrite=overwrite)
    assert somebodys.read_text() == "somebody's"
    assert (tmp_path / "out.unfinished" / "file").read_text() == "new"


def test_what_is_added_meanwhile_to_the_folder_to_replace_is_not_lost(tmp_path):
    out = tmp_path / "out"
    written(out, "old")
    with pytest.raises(FileExistsError, match=r"also holds thesis\.tex"):
        written_beside(out, out / "thesis.tex", overwrite=True)
    assert (out / "file").read_text() == "old"


def test_a_name_that_is_too_long_with_its_ending_is_refused_before(tmp_path):
    with pytest.raises(OSError, match="longer than the 255 bytes"):
        check_folder(tmp_path / ("n" * 245), overwrite=False)
    target = check_folder(tmp_path / ("n" * 244), overwrite=False)
    written(target)
    assert (target / "file").is_file()


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "out")
    with pytest.raises(FileExistsError, match="leads nowhere"):
        check_folder(tmp_path / "out", overwrite=True)


def test_a_linked_folder_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "disk").mkdir()
    written(tmp_path / "disk" / "out", "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    written(check_folder(tmp_path / "out", overwrite=True))
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "file").read_text() == "new"


def run_at_the_same_time(target, count, *arguments):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(count), context.Queue()
    runs = [
        context.Process(target=target, args=(start, results, index, *arguments))
        for index in range(count)
    ]
    for run in runs:
        run.start()
    found = [results.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    return found


def write_folder(start, results, index, folder):
    start.wait()
    try:
        with output_folder(check_folder(folder, overwrite=False), overwrite=False) as unfinished:
            (unfinished / "file").write_text(str(index))
            time.sleep(0.01)
    except FileExistsError:
        results.put(None)
    else:
        results.put(str(index))


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "after an interrupted run"])
def test_of_processes_that_write_one_folder_one_succeeds_and_the_others_are_refused(
    tmp_path, stale
):
    for attempt in range(8):
        out = tmp_path / f"out{attempt}"
        if stale:
            with pytest.raises(OSError, match="disk full"):
                failing(out)
        written_by = [each for each in run_at_the_same_time(write_folder, 2, out) if each]
        assert len(written_by) == 1
        assert (out / "file").read_text() == written_by[0]
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


def killed_while_writing(folder):
    with output_folder(folder, overwrite=True) as unfinished:
        (unfinished / "file").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_leaves_a_folder_that_the_next_one_replaces(tmp_path):
    written(tmp_path / "out", "old")
    run = multiprocessing.get_context("fork").Process(
        target=killed_while_writing, args=(tmp_path / "out",)
    )
    run.start()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert json.loads((tmp_path / "out.unfinished" / MARK).read_text()) == []
    written(check_folder(tmp_path / "out", overwrite=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
