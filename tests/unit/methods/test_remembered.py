"""What is made once is made once, whoever asks and however many at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from querier.methods.remembered import Remembered


def test_threads_that_ask_for_the_same_wait_for_one_call() -> None:
    calls: list[str] = []
    go, both, asking = Event(), Event(), Barrier(4)

    def slow(key: str) -> str:
        calls.append(key)
        if len(calls) == 2:
            both.set()
        assert go.wait(20)
        return key.upper()

    kept = Remembered(slow)

    def ask(key: str) -> str:
        asking.wait(20)
        return kept(key)

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask, key) for key in ("a", "a", "b", "a")]
        assert both.wait(20)
        go.set()
        assert [one.result(20) for one in found] == ["A", "A", "B", "A"]
    assert sorted(calls) == ["a", "b"]


def test_a_failure_is_raised_and_not_kept() -> None:
    tries: list[int] = []

    def second_time(key: int) -> int:
        tries.append(key)
        if len(tries) == 1:
            raise ValueError("not yet")
        return key + 1

    kept = Remembered(second_time)
    with pytest.raises(ValueError, match="not yet"):
        kept(3)
    assert [kept(3), kept(3)] == [4, 4]
    assert tries == [3, 3]


def test_the_oldest_value_goes_first() -> None:
    calls: list[int] = []
    kept = Remembered(lambda key: calls.append(key), most=2)
    for key in (1, 2, 1, 3, 2, 1):
        kept(key)
    assert calls == [1, 2, 3, 1]
