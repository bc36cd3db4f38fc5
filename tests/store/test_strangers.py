"""The sealed folder for people who have never heard of us: each engine opens the files by their names and finds the same rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import odograph

from .test_sealing import fill

pytest.importorskip("pyarrow")


def by_duckdb(lake: Path) -> dict[str, dict[str, int]]:
    duckdb = pytest.importorskip("duckdb")
    query = "select kind, count(*) from read_parquet('{}/facts/*.parquet') group by kind"
    sizes = {t: duckdb.sql(f"select count(*) from '{lake}/{t}/*.parquet'").fetchall()[0][0] for t in ("records", "trajectories")}
    return {"facts": dict(duckdb.sql(query.format(lake)).fetchall()), "rows": sizes}


def by_polars(lake: Path) -> dict[str, dict[str, int]]:
    polars = pytest.importorskip("polars")
    facts = polars.scan_parquet(f"{lake}/facts/*.parquet").group_by("kind").len().collect()
    sizes = {t: polars.read_parquet(f"{lake}/{t}/*.parquet").height for t in ("records", "trajectories")}
    return {"facts": dict(facts.iter_rows()), "rows": sizes}


def by_pandas(lake: Path) -> dict[str, dict[str, int]]:
    pandas = pytest.importorskip("pandas")
    sizes = {t: len(pandas.read_parquet(lake / t)) for t in ("records", "trajectories")}
    return {"facts": pandas.read_parquet(lake / "facts").groupby("kind").size().to_dict(), "rows": sizes}


def by_daft(lake: Path) -> dict[str, dict[str, int]]:
    daft = pytest.importorskip("daft")
    facts = daft.read_parquet(f"{lake}/facts/*.parquet").groupby("kind").count("trajectory").to_pydict()
    sizes = {t: daft.read_parquet(f"{lake}/{t}/*.parquet").count_rows() for t in ("records", "trajectories")}
    return {"facts": dict(zip(*facts.values(), strict=True)), "rows": sizes}


DATASETS = """
import sys, collections, datasets
def rows(table):
    files = f"{sys.argv[1]}/{table}/*.parquet"
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=sys.argv[2])
facts = dict(collections.Counter(rows("facts")["kind"]))
print({"facts": facts, "rows": {t: len(rows(t)) for t in ("records", "trajectories")}})
"""


def by_datasets(lake: Path) -> dict[str, dict[str, int]]:
    pytest.importorskip("datasets")
    cache = str(lake.parent.parent / "cache")
    done = subprocess.run(
        [sys.executable, "-c", DATASETS, str(lake), cache],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    found: dict[str, dict[str, int]] = eval(done.stdout)
    return found


@pytest.mark.parametrize(
    "read",
    [by_duckdb, by_polars, by_pandas, by_daft, pytest.param(by_datasets, marks=pytest.mark.slow)],
    ids=lambda f: f.__name__,
)
def test_an_engine_reads_the_files_by_their_names(store: odograph.Store, read: Any) -> None:
    """DuckDB, Polars, pandas, Daft and `datasets` see all three tables, of several seals, without a word of us."""
    fill(store, 4)
    store.seal()
    fill(store, 2)
    store.seal()
    kinds = Counter({"start": 6, "step": 18, "llm_call": 18, "action": 18, "reward": 6, "end": 6})
    found = read(store.root / "lake")
    assert found["facts"] == kinds
    assert found["rows"] == {"trajectories": 6, "records": kinds.total() + 18}  # and the messages


def test_the_query_of_the_readme_runs_in_the_folder(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README in the folder shows a query, and names every column and every table."""
    duckdb = pytest.importorskip("duckdb")
    fill(store, 1)
    store.seal()
    lake = store.root / "lake"
    text = (lake / "README.md").read_text()
    (query,) = re.findall(r"^    (select .*)$", text, re.M)
    monkeypatch.chdir(lake)
    assert len(duckdb.sql(query).fetchall()) == 12
    for table in ("records", "facts", "trajectories"):
        for column in duckdb.sql(f"select * from '{table}/*.parquet'").columns:
            assert f"| `{column}` |" in text
