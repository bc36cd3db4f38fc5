"""A file that unpacks to far more than any log costs an error that says so, not the memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import odograph


def test_a_zip_bomb_is_refused_with_its_size(tmp_path: Path) -> None:
    """One small sample is imported; one that unpacks to 64 MB of blanks from 64 KB is named with its size and the bound."""
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {"run_id": "r", "task": "t"}}))
        good = {"id": "a", "epoch": 1, "input": "q", "messages": [{"role": "user", "content": "q"}]}
        log.writestr("samples/a_epoch_1.json", json.dumps(good))
        log.writestr("samples/b_epoch_1.json", "[" + " " * 64_000_000 + "]")
    with odograph.open("memory:") as store:
        report = store.import_sessions(path)
        said = str(report.warnings) + str(report.failed)
        assert "expected at most" in said
        assert "64,000,002" in said
        assert sum(1 for _ in store.trajectories()) <= 1


def text() -> Any:
    """Five thousand times the same megabyte."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array(["x" * 1_000_000]))


def ids() -> Any:
    """One list of three million numbers."""
    numbers = pa.repeat(pa.scalar(5, pa.int32()), 3_000_000)
    return pa.ListArray.from_arrays(pa.array([0, len(numbers)], pa.int32()), numbers)


@pytest.mark.parametrize(("column", "make", "said"), [("body", text, "unpacks to more than"), ("ids", ids, "unpacks to 12,")])
def test_a_parquet_bomb_is_refused_with_its_size(tmp_path: Path, column: str, make: Callable[[], Any], said: str) -> None:
    """A file of a few kilobytes that unpacks to far more costs an error; what is whole is imported."""
    values = make()
    with odograph.open("memory:") as store:
        with store.record(task="t") as run:
            run.note({"q": "whole"})
        store.export(tmp_path / "out", to="parquet")
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path / "out").imported == 1
        assert store.trajectory(run.id).records
    (path,) = (tmp_path / "out" / "records").glob("*.parquet")
    row = parquet.read_table(path).slice(0, 1).drop_columns([column] if column in parquet.read_schema(path).names else [])
    table = row.take(pa.array([0] * len(values))).append_column(column, values)
    parquet.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 100_000
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path / "out")
        assert said in str(report.failed), report
        assert "expected at most 10,000,000" in str(report.failed)
