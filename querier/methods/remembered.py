"""What was made once and is not made again, for threads too."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

KEPT = 4096

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """A slow function that is called once for each argument.

    Threads that ask for the same at one time wait for one call, which `functools.lru_cache` would make for each of
    them. What failed is asked for again by whoever comes later.

    Args:
        function: Of one argument.
        most: Values that are kept; the oldest goes first.
    """

    def __init__(self, function: Callable[[Key], Value], most: int = KEPT) -> None:
        self._function, self._most = function, most
        self._known: dict[Key, Future[Value]] = {}
        self._lock = Lock()

    def __call__(self, key: Key) -> Value:
        """The function's value, or what it raised."""
        with self._lock:
            found = self._known.get(key)
            mine = found is None
            if found is None:
                found = self._known[key] = Future()
                if len(self._known) > self._most:
                    del self._known[next(iter(self._known))]
        if mine:
            self._call(key, found)
        return found.result()

    def _call(self, key: Key, future: Future[Value]) -> None:
        try:
            future.set_result(self._function(key))
        except BaseException as error:  # noqa: BLE001  # an interrupt too, or others would wait for ever
            with self._lock:
                if self._known.get(key) is future:
                    del self._known[key]
            future.set_exception(error)
