"""What is written is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from querier.errors import InputError
from querier.files import atomic_folder, check_place, write_atomic


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def test_writes_text_and_bytes_and_missing_parents(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "text", "grüße\n")
    write_atomic(tmp_path / "bytes", b"\xff")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "grüße\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\xff"


def test_replaces_a_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "old")
    write_atomic(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "new"


def test_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic_folder(tmp_path / "folder") as new:
            (new / name).write_text(name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_folder_stays_as_it_was_after_an_error(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as new:
        (new / "one").write_text("one")

    def interrupted() -> None:
        with atomic_folder(tmp_path / "folder") as new:
            (new / "two").write_text("two")
            raise Killed

    with pytest.raises(Killed):
        interrupted()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_place_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_place(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(InputError, match=r"cannot be written \(Not a directory\); give a folder"):
            check_place(place)
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may write anywhere
    with pytest.raises(InputError, match=r"new: cannot be written \(Permission denied\)"):
        check_place(tmp_path / "new")


def test_refuses_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file.*cannot be written .*give a folder"):
        write_atomic(tmp_path / "file" / "below", "text")
    with (
        pytest.raises(InputError, match=r"file: a folder is to be written here, but a file"),
        atomic_folder(tmp_path / "file"),
    ):
        pass
    with pytest.raises(InputError, match="cannot be written"), atomic_folder(Path("/proc/nowhere/folder")):
        pass
