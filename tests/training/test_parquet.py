"""`parquet`: three tables that everybody's tools read. That nothing is lost is tested beside `jsonl`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from odograph.columns import record_schema, trajectory_schema
from odograph.training.export import export
from odograph.types import Record, Start

from .made import asked, call, chat, made


def read(folder: Path, table: str) -> pa.Table:
    (file,) = (folder / table).glob("train-*.parquet")
    return pq.read_table(file)


def test_what_all_records_have_is_a_column() -> None:
    """Columns follow the record types: a field of text or a whole number that is added there is a column here."""
    plain = {f for f in Record.__struct_fields__ if f != "extra"}
    assert plain <= set(record_schema().names)
    assert {"task", "agent", "model", "group", "seed", "agent_version", "tags"} <= set(trajectory_schema().names)
    assert set(trajectory_schema().names) & set(Start.__struct_fields__) >= {"schema_version", "metadata"}


def test_tables_can_be_asked_without_odograph(tmp_path: Path) -> None:
    """Rewards, kinds, token ids and logprobs are plain columns, exact, of the types that fit them."""
    logprobs = [-0.10536051565782628, None, -1e-300]
    calls = [call(chat("s", "u"), "r", prompt_token_ids=[1, 2, 3], tokens=[{"token_ids": [4, 5, 6], "logprobs": logprobs}])]
    ts = [asked("x", 0.5), made(task={"n": 1}, group="g", tags=["t"], steps=[{"llm_calls": calls}])]
    manifest = export(ts, tmp_path / "o", "parquet")
    about = read(tmp_path / "o", "trajectories").to_pylist()
    assert [r["id"] for r in about] == [t.id for t in ts]
    assert [(r["task"], r["reward"], r["group"], r["tags"], r["llm_calls"]) for r in about] == [
        ('"x"', 0.5, None, [], 1),
        ('{"n":1}', None, "g", ["t"], 1),
    ]
    records = read(tmp_path / "o", "records")
    assert records.schema.field("logprobs").type == pa.list_(pa.float64())
    assert [(r["kind"], r["seq"]) for r in records.to_pylist()] == [("start", 1), ("step", 2), ("llm_call", 3), ("reward", 4), ("end", 5), ("start", 1), ("step", 2), ("llm_call", 3), ("end", 4)]  # fmt: skip
    assert [r["logprobs"] for r in records.to_pylist() if r["kind"] == "llm_call"] == [None, logprobs]
    messages = read(tmp_path / "o", "messages")
    assert messages.schema.field("ids").type == pa.list_(pa.int32())
    assert [i for r in messages.to_pylist() for i in r["ids"] or []] == [1, 2, 3, 4, 5, 6]
    assert manifest["rows_by_table"] == {"trajectories": 2, "records": records.num_rows, "messages": messages.num_rows}
    for table in ("trajectories", "records", "messages"):
        (file,) = (tmp_path / "o" / table).glob("*.parquet")
        assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


def test_datasets_loads_each_table(tmp_path: Path) -> None:
    """`load_dataset(folder, "records")` works, and the default is the trajectories."""
    datasets = pytest.importorskip("datasets")
    manifest = export([asked("x"), asked("y")], tmp_path / "o", "parquet")
    cache = str(tmp_path / "cache")
    for table, rows in manifest["rows_by_table"].items():
        assert datasets.load_dataset(str(tmp_path / "o"), table, split="train", cache_dir=cache).num_rows == rows
    assert datasets.load_dataset(str(tmp_path / "o"), split="train", cache_dir=cache).column_names == trajectory_schema().names


def test_nothing_but_parquet_needs_arrow(tmp_path: Path) -> None:
    """Text exports work without pyarrow; what needs it says so in one sentence before anything is written."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import odograph; from odograph.training.export import export\n"
        "s = odograph.open('memory:'); s.add({'task': 'x'})\n"
        "for to in ('jsonl', 'openai', 'atif'): s.export(sys.argv[1] + '/' + to, to)\n"
        "s.export(sys.argv[1] + '/hf-text', 'hf', format='jsonl')\n"
        "for to in ('hf', 'parquet'):\n"
        "    try: s.export(sys.argv[1] + '/' + to, to)\n"
        "    except odograph.MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert done.stdout == "Parquet needs the extra 'lake': pip install 'odograph[lake]'\n" * 2, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["atif", "hf-text", "jsonl", "openai"]
