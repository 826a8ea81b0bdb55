"""What every reader needs: the files behind a path, and one record as it stands in a file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from querier.data.parsing import nearest_first
from querier.errors import InputError

NOT_TEXT = {  # how files begin that are no UTF-8 as a whole, and what to do
    b"\x1f\x8b": "the file is packed: unpack it with gunzip",
    b"PK\x03\x04": "the file is packed: unpack it with unzip",
    b"\xff\xfe": "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
}
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
    """The file itself, or the files of a folder with this ending, by name, 10 behind 9.

    Raises:
        InputError: When there is nothing to read.
    """
    place = Path(path)
    check_exists(place)
    if place.is_file():
        return [place]
    every = [file for file in place.iterdir() if file.is_file()]
    files = sorted((file for file in every if file.suffix.lower() == ending), key=lambda file: natural(file.name))
    if not files:
        others = {file.suffix.lower() for file in every}
        near = [f"{other} files: data={reader}" for other, reader in READERS.items() if other in others]
        also = f" (it holds {', '.join(near)})" if near else ""
        raise InputError(
            f"data.path: the folder {path} holds no {ending} file; give a file, or another data.reader{also}"
        )
    return files


def natural(*names: str) -> list[tuple[int, int, str]]:
    """A key that sorts names with numbers in them by the numbers: chunk 10 behind chunk 9."""
    parts = re.split(r"(\d+)", "/".join(names))
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


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
        do = "save the file as UTF-8, or convert it: iconv -f LATIN1 -t UTF-8"
        if first:
            do = next((what for start, what in NOT_TEXT.items() if content.startswith(start)), do)
        fault = f"not UTF-8: byte 0x{content[error.start]:02x} at position {error.start + 1}; {do}"
        return content.decode("utf-8", errors="replace").rstrip("\r\n"), fault
