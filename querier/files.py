"""Writing files: a killed process leaves the old content or the new one, never half; locks let one process write."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from querier.errors import InputError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing; text is written as UTF-8. Missing parent folders are made.

    Raises:
        InputError: When the folder cannot be written.
    """
    path = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    _make_folder(path.parent)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide the file from others
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_unwritable(path, error)) from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that takes its place when the block ends without an error.

    What stood at `path` is replaced as a whole; after an error it stays as it was and the new folder is removed.

    Raises:
        InputError: When the folder cannot be written, or `path` is a file.
    """
    path = Path(path)
    if path.is_file():
        raise InputError(f"{path}: a folder is to be written here, but a file of that name exists; remove or rename it")
    _make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
    except OSError as error:
        raise InputError(_unwritable(path, error)) from error
    try:
        yield temporary
        _replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    # A folder that holds files cannot be renamed over: the old one steps aside first.
    old = path.with_name(f"{new.name}.old")
    try:
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise InputError(_unwritable(path, error)) from error
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`; other processes wait until the block ends, or until this process does.

    Args:
        path: Of the file.
        shared: Whether others that say so may hold it at the same time.
        wait: Whether to wait for it.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is not set.
    """
    with path.open("ab") as file:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def check_place(folder: Path) -> None:
    """Refuse a folder that could not be made or written to, before any work is done for it; makes nothing.

    Raises:
        InputError: When it or the nearest folder above it is a file or may not be written to.
    """
    standing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    reason = errno.ENOTDIR if not standing.is_dir() else 0 if os.access(standing, os.W_OK | os.X_OK) else errno.EACCES
    if reason:
        raise InputError(_unwritable(folder, OSError(reason, os.strerror(reason))))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(_unwritable(folder, error)) from error


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{path}: cannot be written ({reason}); give a folder that you may write to and that has space"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
