"""The door of exports: whole trajectories, splits, the manifest, the folder, and other people's exporters."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.errors import InvalidInput, NotFound, OdographError, StoreError
from odograph.training import folder
from odograph.training.export import export
from odograph.training.formats import NAMES, Target, find, names
from odograph.training.splits import split_of
from odograph.trajectory import Trajectory

from .made import asked, call, chat, lines, made


def test_every_exporter_says_what_it_is() -> None:
    """Built-ins come through the door that third parties use, and begin with a sentence about what they write."""
    for name in NAMES:
        exporter = import_module(f"odograph.training.formats.{name.replace('-', '_')}")
        assert name == exporter.NAME == find(name).name
        assert (exporter.__doc__ or "").strip()
    assert names()[: len(NAMES)] == list(NAMES)


def test_a_manifest_says_what_was_asked_and_what_came_out(tmp_path: Path) -> None:
    """Format, filters, options, counts in and out, splits, reasons, versions, and each file with its size and hash."""
    silent = made(task="nothing")
    manifest = export([asked("x", 1.0), silent], tmp_path / "o", "hf", asked={"min_reward": 0.5}, include_metadata=False)
    assert json.loads((tmp_path / "o/manifest.json").read_text()) == json.loads(json.dumps(manifest))
    assert manifest["asked"] == {"min_reward": 0.5}
    assert (manifest["to"], manifest["format"], manifest["options"]) == ("hf", "parquet", {"include_metadata": False})
    assert manifest["trajectories"] == {"in": 2, "out": 1}
    assert manifest["rows"] == 1
    assert manifest["rows_by_split"] == manifest["trajectories_by_split"] == {"train": 1}
    assert manifest["left_out"] == {"no call of a model": 1}
    assert manifest["schema_version"] == 1
    assert manifest["odograph"] == odograph.__version__
    assert manifest["created"].endswith("Z")
    for file in manifest["files"]:
        data = (tmp_path / "o" / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_content_hash_depends_on_the_content_alone(tmp_path: Path) -> None:
    """The same trajectories give the same hash at any time; other ones another."""
    a, b = asked("a"), asked("b")
    first = export([a], tmp_path / "1", "hf")["content_hash"]
    assert export([a], tmp_path / "2", "hf")["content_hash"] == first
    assert export([b], tmp_path / "3", "hf")["content_hash"] != first


def test_progress_is_told_after_each_trajectory(tmp_path: Path) -> None:
    """A progress bar gets how many are done."""
    done: list[int] = []
    export((asked(str(n)) for n in range(3)), tmp_path / "o", "jsonl", progress=done.append)
    assert done == [1, 2, 3]


class Half:
    """Fails in the middle of what it can't write."""

    NAME = "half"
    FILES = ("jsonl",)

    def rows(self, trajectory: Trajectory, left_out: Any) -> Iterator[dict[str, Any]]:
        yield {"task": trajectory.task, "row": 0}
        left_out("a reason of its own")
        if trajectory.task == "bad":
            raise KeyError("x\ny" * 5000)
        yield {"task": trajectory.task, "row": 1}


class HalfAsParquet(Half):
    FILES = ("parquet",)

    def schema(self) -> Any:
        import pyarrow

        return pyarrow.schema([("task", pyarrow.string()), ("row", pyarrow.int64())])


@pytest.mark.parametrize("exporter", [Half, HalfAsParquet])
def test_a_trajectory_is_in_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exporter: type[Half]) -> None:
    """One that fails midway leaves no row and is in the manifest with a short reason; the others lose nothing."""
    ts = [asked("good"), asked("bad"), asked("fine")]
    manifest = export(ts, tmp_path / "o", Target.of("half", exporter()))
    if exporter is Half:
        assert [r["task"] for r in lines(tmp_path / "o")] == ["good", "good", "fine", "fine"]
    assert manifest["rows"] == 4
    assert manifest["trajectories"] == {"in": 3, "out": 2}
    (failed,) = manifest["failed"]
    assert failed["trajectory"] == ts[1].id
    assert failed["error"].startswith("an error: KeyError")
    assert len(failed["error"]) <= 200
    assert manifest["left_out"] == {failed["error"]: 1, "a reason of its own": 2}


def test_rows_that_arrow_refuses_cost_their_trajectory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that does not fit its column is a reason in the manifest, not a lost export."""

    class Odd(HalfAsParquet):
        def rows(self, trajectory: Trajectory, left_out: Any) -> Iterator[dict[str, Any]]:
            yield {"task": trajectory.task, "row": 1 << 80 if trajectory.task == "bad" else 1}

    manifest = export([asked("good"), asked("bad"), asked("fine")], tmp_path / "o", Target.of("odd", Odd()))
    assert manifest["rows"] == 2
    assert len(manifest["failed"]) == 1


def test_rows_too_large_to_hold_are_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large trajectories are put aside on disk until they are sound: the files are those that memory would have given."""
    ts = [asked("a"), asked("bad"), asked("b")]
    expected = [export(ts, tmp_path / to, to)["content_hash"] for to in ("hf", "jsonl", "atif")]
    monkeypatch.setattr(folder, "_HOLD", 10)
    assert [export(ts, tmp_path / to, to)["content_hash"] for to in ("hf", "jsonl", "atif")] == expected
    assert export(ts, tmp_path / "half", Target.of("half", Half()))["rows"] == 4


def test_an_export_is_as_open_as_the_umask_says(tmp_path: Path) -> None:
    """Folders and files of an export have the modes that the user's umask gives; nothing else is left beside it."""
    for umask, folders in ((0o077, {0o700}), (0o022, {0o755}), (0o002, {0o775})):
        before = os.umask(umask)
        try:
            for _ in range(2):  # the second replaces the first
                export([asked("x")], tmp_path / "o", "hf")
        finally:
            os.umask(before)
        modes = {path.is_dir(): set[int]() for path in (tmp_path, tmp_path / "o" / folder.MANIFEST)}
        for path in (tmp_path / "o", *(tmp_path / "o").rglob("*")):
            modes[path.is_dir()].add(path.stat().st_mode & 0o777)
        assert modes == {True: folders, False: {0o666 & ~umask}}
        assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python's collector of circles waits: memory that it alone would free stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("to", ["jsonl", "hf", "openai", "trl-sft", "atif"])
def test_memory_does_not_grow_with_the_export(store: odograph.Store, uncollected: None, tmp_path: Path, to: str) -> None:
    """Trajectories are streamed: four times as many need no more memory, and each is freed when its rows are written."""
    for n in range(80):
        with store.record(task=f"{n}" * 2000) as run:
            with run.step() as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": f"{n}" * 2000}], response="a")
            run.reward(1.0)

    def peak(count: int) -> int:
        tracemalloc.start()
        export(islice(store.trajectories(), count), tmp_path / to, to)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(5)
    assert peak(80) < peak(20) + 300_000


# --- splits ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.text(max_size=8), st.sampled_from([None, "g", "h"]))
def test_a_task_is_never_in_two_splits(seed: int, task: str, group: str | None) -> None:
    """The same group, or without one the same task, is always in the same split, whatever else is exported."""
    shares = [("train", 0.5), ("test", 2.0)]
    one, two = (Trajectory.from_dict({"task": task, "group": group, "id": id}) for id in ("1", "2"))
    assert split_of(one, shares, seed) == split_of(two, shares, seed)


def test_splits_have_about_their_shares_and_are_all_there(tmp_path: Path) -> None:
    """Shares hold for many groups, another seed splits otherwise, and a split that got nothing says so and is in no way."""
    datasets = pytest.importorskip("datasets")
    ts = [Trajectory.from_dict({"task": n}) for n in range(2000)]
    shares = [("train", 0.9), ("test", 2.0)]
    train = [split_of(t, shares, 0) == "train" for t in ts]
    assert 1740 < sum(train) < 1860
    assert train != [split_of(t, shares, 1) == "train" for t in ts]
    manifest = export([asked("x")], tmp_path / "o", "hf", splits={"train": 0.5, "test": 0.5})
    assert sorted(manifest["rows_by_split"].values()) == [0, 1]
    loaded = datasets.load_dataset(str(tmp_path / "o"), cache_dir=str(tmp_path / "cache"))
    assert {n: d.num_rows for n, d in loaded.items()} == {n: rows for n, rows in manifest["rows_by_split"].items() if rows}


@pytest.mark.parametrize(
    "splits", [{"train": 0.5}, {"train": float("nan")}, {"a": 1.5, "b": -0.5}, {"../up": 1.0}, {"": 1.0}, {"a-b": 1.0}]
)
def test_splits_that_make_no_sense_are_refused(tmp_path: Path, splits: dict[str, float]) -> None:
    """Shares that are no shares and names that are no names: one sentence, nothing written."""
    with pytest.raises(InvalidInput, match=r"^(splits are shares|a split's name)"):
        export([], tmp_path / "o", "jsonl", splits=splits)
    assert list(tmp_path.iterdir()) == []


# --- the folder -----------------------------------------------------------------------------------------------------


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    """A folder with anything else in it is refused and stays as it is, also if it has some manifest.json of its own."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "manifest.json").write_text('{"name": "a browser extension", "files": []}')
    (project / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for place in ("project", "file"):
        with pytest.raises(InvalidInput, match="is there already and is no export; name a folder that is new or empty"):
            export([asked("x")], tmp_path / place, "jsonl")
    assert (project / "thesis.txt").read_text() == "precious"

    out = tmp_path / "out"
    export([asked("x")], out, "parquet")
    (out / "records" / "notes.md").write_text("precious")
    with pytest.raises(InvalidInput, match=r"is an export with other files in it: 'records/notes.md'"):
        export([asked("x")], out, "jsonl")
    (out / "records" / "notes.md").unlink()
    export([asked("x")], out, "jsonl")
    assert sorted(p.name for p in out.iterdir()) == ["data", "manifest.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out", "project"]


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    """Whatever ends an export, Ctrl-C too, the folder holds what it held before, and no draft stays behind."""

    def interrupted() -> Iterator[Trajectory]:
        yield asked("x")
        raise KeyboardInterrupt

    before = export([asked("y")], tmp_path / "o", "hf")
    with pytest.raises(KeyboardInterrupt):
        export(interrupted(), tmp_path / "o", "hf")
    assert json.loads((tmp_path / "o/manifest.json").read_text())["content_hash"] == before["content_hash"]
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """The sentence names the folder and what the system said."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"can't be written: "):
        export([asked("x")], tmp_path / "file" / "below", "jsonl")


def test_an_id_leads_nowhere(tmp_path: Path) -> None:
    """A trajectory's id is content: it names no file outside of the export."""
    evil = Trajectory.from_dict({"start": {"trajectory": "../../evil", "id": "1"}, "steps": [{"observation": "x"}]})
    export([evil], tmp_path / "o" / "p", "atif")
    assert [p.name for p in tmp_path.iterdir()] == ["o"]
    assert len(list((tmp_path / "o/p/data").glob("train-*.json"))) == 1


def test_shards_have_the_names_that_datasets_expects(tmp_path: Path) -> None:
    """A large split is in several files, `train-00000-of-00003.parquet`, and loads as one."""
    datasets = pytest.importorskip("datasets")
    manifest = export([asked(str(n)) for n in range(5)], tmp_path / "o", "hf", max_shard_rows=2)
    assert [f["path"] for f in manifest["files"]] == [f"data/train-{n:05d}-of-00003.parquet" for n in range(3)]
    assert datasets.load_dataset(str(tmp_path / "o"), cache_dir=str(tmp_path / "c"))["train"].num_rows == 5


# --- other people's -------------------------------------------------------------------------------------------------


PLUGIN = '''
"""Questions and answers, a line each."""
NAME = "qa"
FILES = ("jsonl",)

def rows(trajectory, left_out, upper=False):
    if not trajectory.llm_call:
        left_out("no call")
        return
    task = trajectory.task
    yield {"q": task.upper() if upper else task, "a": trajectory.llm_call.text}
'''


def test_an_exporter_is_one_file(tmp_path: Path) -> None:
    """A Python file with a name, kinds of files and a function is an exporter; its options are its function's."""
    plugin = tmp_path / "qa.py"
    plugin.write_text(PLUGIN)
    manifest = export([asked("x"), made(task="y")], tmp_path / "o", str(plugin), upper=True)
    assert lines(tmp_path / "o") == [{"q": "X", "a": "answer to x"}]
    assert manifest["left_out"] == {"no call": 1}
    with pytest.raises(InvalidInput, match="has no option 'lower'; it has: upper"):
        export([], tmp_path / "p", str(plugin), lower=True)


def test_mistakes_are_answered_with_what_exists(tmp_path: Path) -> None:
    """No such exporter, kind of file or option, and a file that is no exporter: one sentence each."""
    with pytest.raises(NotFound, match=r"no exporter named 'xyz'; there are: agent-lightning, .*hf, .*jsonl, .*trl-sft, .*verl"):
        export([], tmp_path / "o", "xyz")
    with pytest.raises(InvalidInput, match="openai can't be written as 'parquet'; it can as: jsonl"):
        export([], tmp_path / "o", "openai", format="parquet")
    with pytest.raises(InvalidInput, match="openai has no option 'include_metadata'; it has: none"):
        export([], tmp_path / "o", "openai", include_metadata=False)
    (tmp_path / "no.py").write_text("NAME = 'no'\nFILES = ('parquet',)")
    with pytest.raises(InvalidInput, match=r"is no exporter: it has no rows"):
        export([], tmp_path / "o", str(tmp_path / "no.py"))
    (tmp_path / "odd.py").write_text("NAME = 'odd'\nFILES = ('xml',)\ndef rows(t, left_out): ...\n")
    with pytest.raises(InvalidInput, match=r"FILES is a tuple of json, jsonl, parquet, not \('xml',\)"):
        export([], tmp_path / "o", str(tmp_path / "odd.py"))
    assert not (tmp_path / "o").exists()


def test_a_row_that_is_none_is_a_reason(tmp_path: Path) -> None:
    """An exporter that returns one dict, whose names would be its rows, gives no row and a reason."""
    (tmp_path / "one.py").write_text("NAME = 'one'\nFILES = ('jsonl',)\ndef rows(t, left_out): return {'a': 1}\n")
    manifest = export([asked("x")], tmp_path / "o", str(tmp_path / "one.py"))
    assert manifest["left_out"] == {"an error: TypeError: the exporter gave 'a'; a row is a dict": 1}


def test_options_are_keywords_beside_filters(tmp_path: Path) -> None:
    """`store.export(out, to=..., edits="env", group="g")` knows filters from options; what is neither is a TypeError that lists both."""
    with odograph.open("memory:") as store:
        store.add({"task": "t", "group": "g", "token_ids": [1, 2], "mask": [0, 1], "logprobs": [None, -0.1], "reward": 1.0})
        store.add({"task": "t", "group": "h", "token_ids": [1, 2], "mask": [0, 1], "logprobs": [None, -0.1], "reward": 1.0})
        manifest = store.export(tmp_path / "o", to="trl-grpo", edits="mask", advantage="reward", group="g")
        assert manifest["rows"] == 1 and manifest["options"] == {"edits": "mask", "advantage": "reward"}
        assert manifest["asked"] == {"group": "g"}
        with pytest.raises(
            TypeError, match=r"no filter or option 'grup'; the filters are .*group.*, the options of hf include_metadata"
        ):
            store.export(tmp_path / "p", to="hf", grup="g")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function", "name", "arguments", "text", "type", "id", "choices", "message"]),
        inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@given(
    st.sampled_from([None, "openai.chat", "openai.responses", "anthropic.messages", "other"]),
    st.lists(st.tuples(JSON, JSON), max_size=4),
)
@settings(deadline=None, max_examples=50)  # of each every format
def test_no_content_fails_an_export(
    tmp_path_factory: pytest.TempPathFactory, dialect: str | None, calls: list[tuple[Any, Any]]
) -> None:
    """Whatever stands in requests and responses, every format takes the trajectory or says why not, in its own words."""
    step = {"llm_calls": [{"request": r, "response": a, "dialect": dialect} for r, a in calls]}
    steps = [step, {"llm_calls": [{**call(r if isinstance(r, list) else [r], a), "dialect": dialect} for r, a in calls]}]
    trajectory = made(task="x", steps=steps)
    folder = tmp_path_factory.mktemp("any")
    for to in NAMES:
        try:
            manifest = export([trajectory], folder / to, to)
        except OdographError as error:  # pragma: no cover
            raise AssertionError(to) from error
        assert manifest["failed"] == [], to


def test_calls_of_judges_and_failures_are_counted(tmp_path: Path) -> None:
    """What is not the policy's own decision gives no row, and the manifest says how often and why."""
    calls = [
        call(chat("s", "u"), "fine"),
        call(chat("s", "u"), "1.0", purpose="judge"),
        call(chat("s", "u"), None, error="500"),
        call(chat("s", "u"), None),
        {"response": "from nowhere"},
    ]
    for to in ("hf", "openai"):
        manifest = export([made(steps=[{"llm_calls": calls}])], tmp_path / to, to)
        assert manifest["rows"] == 1
        assert manifest["left_out"] == {
            "a call for judge": 1,
            "a call that failed": 1,
            "a call without an answer": 1,
            "a call whose prompt is not known": 1,
        }
