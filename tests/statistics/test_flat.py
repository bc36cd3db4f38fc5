"""Figures of ten times the trajectories need a few bytes more for each, and comparisons of ten times the values need no more."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.statistics.comparing import paired_difference, permutation_test, unpaired_difference
from odograph.store import columnar

np = pytest.importorskip("numpy")


def peak(do: Callable[[], Any]) -> int:
    """The most bytes that were allocated at once; numpy tells of its arrays, too."""
    do()  # loads modules, and fills what stays in memory
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_stats_of_more_trajectories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the columns of a sealed store takes less than 140 bytes for each further trajectory (it took 250), and `stats` as a
    whole less than 220."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(columnar, "FEWEST", 0)
    monkeypatch.setattr(columnar, "_ROWS", 256)
    peaks = []
    with odograph.open(tmp_path / "store", seal_at=0) as store:
        for count in (1000, 4000):
            for n in range(store.count(), count):
                step = [{"actions": [{"name": "look", "arguments": {}, "result": 1}]}] if n % 2 else []
                store.add({"task": n // 4, "steps": step, "reward": n % 7 / 7})
            store.seal()
            peaks.append((peak(store.backend.reader.columns), peak(store.stats)))
        assert store.backend.reader.columns() is not None
        assert store.stats().differences
    reading, figures = ((many - few) / 3000 for few, many in zip(*peaks, strict=True))
    assert reading < 140, peaks
    assert figures < 220, peaks


def test_comparisons_of_more_values() -> None:
    """Intervals and tests of ten times the values take less than twice the memory; it was ten times."""
    pytest.importorskip("scipy")
    peaks = []
    for count in (300, 3000):
        a, b = [n % 7 / 7 for n in range(count)], [n % 5 / 5 for n in range(count)]
        peaks.append(
            [
                peak(lambda a=a, b=b: paired_difference(a, b)),
                peak(lambda a=a, b=b: unpaired_difference(a, b)),
                peak(lambda a=a, b=b: permutation_test(a, b, paired=False)),
            ]
        )
    assert all(many < 2 * few for few, many in zip(*peaks, strict=True)), peaks
