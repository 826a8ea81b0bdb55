"""What every reader needs: the files behind a path, and one record as it stands in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from querier.data.parsing import nearest_first
from querier.errors import InputError

READERS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}  # which reader takes files of which ending


@dataclass(frozen=True)
class Source:
    """One record as it stands in a file, or why it cannot be read.

    Args:
        file: Where it stands.
        line: Its line, from 1; the record's number where the format has no lines.
        text: As it stands there, for the list of refused records.
        record: What it holds.
        fault: Why it cannot be read; empty if it can.
    """

    file: str
    line: int
    text: str
    record: Any = None
    fault: str = ""


def files_of(path: str, ending: str) -> list[Path]:
    """The file itself, or the files of a folder with this ending, by name.

    Raises:
        InputError: When there is nothing to read.
    """
    place = Path(path)
    check_exists(place)
    if place.is_file():
        return [place]
    files = sorted(file for file in place.iterdir() if file.suffix == ending and file.is_file())
    if not files:
        others = {file.suffix for file in place.iterdir() if file.is_file()}
        near = [f"{other} files: data={reader}" for other, reader in READERS.items() if other in others]
        also = f" (it holds {', '.join(near)})" if near else ""
        raise InputError(
            f"data.path: the folder {path} holds no {ending} file; give a file, or another data.reader{also}"
        )
    return files


def other_reader(path: Path, own: str) -> str:
    """What to say of a file that `own` cannot take apart and whose name another reader takes; else empty."""
    reader = READERS.get(path.suffix.lower(), own)
    return "" if reader == own else f"; its name ends in {path.suffix}: read it with data={reader}"


def check_exists(path: Path, setting: str = "data.path") -> None:
    """Refuse a path that is not there, naming its nearest neighbours and the setting that gave it.

    Raises:
        InputError: With the first part that does not exist.
    """
    if path.exists():
        return
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    beside = [other.name for other in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = nearest_first(missing.name, beside)[:3]
    hint = f"; nearest in {missing.parent}: {', '.join(near)}" if near else ""
    raise InputError(f"{setting}: no such file or folder: {path}{hint}")


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        InputError: When it may not be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that you may read") from error


def read_json(path: Path) -> Any:
    """What a file of a published layout holds.

    Raises:
        InputError: When it may not be read, or is no JSON.
    """
    with open_bytes(path) as file:
        content = file.read()
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON in UTF-8 ({error}); take the published file") from error


def decode(content: bytes, first: bool = False) -> tuple[str, str]:
    """A line as text and what is wrong with its bytes, if anything; a byte order mark on the first line is dropped."""
    try:
        return content.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"), ""
    except UnicodeDecodeError as error:
        fault = (
            f"not UTF-8: byte 0x{content[error.start]:02x} at position {error.start + 1}; save the file as UTF-8, "
            "or convert it: iconv -f LATIN1 -t UTF-8"
        )
        return content.decode("utf-8", errors="replace").rstrip("\r\n"), fault
