"""A store that redacts has no secret in its worlds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("daft")

import daft

import odograph
from odograph.errors import StoreError
from odograph.worlds import (
    AsyncProcessor,
    Component,
    Label,
    LabelingConfig,
    LabelingProcessor,
    StorageConfig,
    SyncWorldRuntime,
    Trajectory,
    Turn,
)

from .judge_server import JudgeServer, verdict

SECRET = "kitten-4711"


class Mood(Component, shared=("story",)):
    name: str = ""
    story: str = ""
    words: list[str] = []  # noqa: RUF012 (each component gets a list of its own)


class Tells(AsyncProcessor):
    components = (Mood,)

    async def process(self, df: Any, resources: Any = None, **kwargs: Any) -> Any:
        return df.with_column("mood__name", daft.lit(f"now {SECRET}")).with_column("mood__story", daft.lit(f"told {SECRET}"))


def test_no_secret_is_in_a_worlds_rows_and_texts(tmp_path: Path) -> None:
    """What is spawned, updated, written by a processor or said by a judge is redacted, whoever opens the worlds; JSON stays JSON."""
    with odograph.open(tmp_path / "s", redact=[r"kitten-\d+"]) as store:
        assert store.backend.folder is not None
        world = store.world("hand", processors=[Tells()])  # nothing was recorded yet
        id = world.spawn(Mood(name=SECRET, story=f"a {SECRET} story", words=["x", SECRET]))
        assert world.get(id, Mood) == Mood(
            name="[redacted:pattern]", story="a [redacted:pattern] story", words=["x", "[redacted:pattern]"]
        )
        world.step()
        assert world.get(id, Mood).name == "now [redacted:pattern]" and world.get(id, Mood).story == "told [redacted:pattern]"
        world.update(id, Mood(name=SECRET))
        with store.record(task="t") as run:
            run.finish("done")
    with SyncWorldRuntime() as runtime, JudgeServer(lambda text: verdict(SECRET, 1.0, f"it said {SECRET}")) as server:
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False)
        world = runtime.world("judged", StorageConfig(tmp_path / "s"), [LabelingProcessor()], [config])
        turns = [Turn("user", f'say {SECRET} "quoted"'), Turn("assistant", SECRET)]
        id = world.spawn(
            Trajectory.from_turns("t", turns, outcome=SECRET), Label(technique="k", description=f"is {SECRET} in it?")
        )
        world.step()
        assert SECRET not in json.dumps([body for _, body in server.requests])
        label, session = world.get(id, Label), world.get(id, Trajectory)
        assert (label.value, label.rationale) == ("[redacted:pattern]", "it said [redacted:pattern]")
        assert [t.content for t in session.get_turns()] == ['say [redacted:pattern] "quoted"', "[redacted:pattern]"]
    from pyarrow import parquet

    for path in (tmp_path / "s" / "lake").rglob("*.parquet"):
        assert SECRET not in str(parquet.read_table(path).to_pylist()), path


def test_worlds_are_read_and_not_written_where_the_redaction_cannot_be_loaded(tmp_path: Path) -> None:
    """The module that redacts a store is gone: worlds show what they hold, and no row, tick or new world is written."""
    hiding = tmp_path / "hiding.py"
    hiding.write_text(f"def hide(text):\n    return text.replace({SECRET!r}, '[gone]')\n")
    with odograph.open(tmp_path / "s", redact=f"{hiding}:hide") as store:
        world = store.world("w", processors=[Tells()])
        id = world.spawn(Mood(name=SECRET))
        world.step()
    hiding.unlink()
    with odograph.open(tmp_path / "s") as store:
        world = store.world("w", processors=[Tells()])
        assert world.get(id, Mood).name == "now [gone]" and world.query(Mood).count_rows() == 1
        before = sorted(p.name for p in (tmp_path / "s" / "lake").rglob("*.parquet"))
        for write in (
            lambda: world.spawn(Mood()) and world.step(),
            world.step,
            lambda: store.world("new").spawn(Mood(name=SECRET)),
        ):
            with pytest.raises(StoreError, match="can't be loaded"):
                write()
        assert sorted(p.name for p in (tmp_path / "s" / "lake").rglob("*.parquet")) == before


def test_a_store_without_redaction_keeps_all(tmp_path: Path) -> None:
    """Nothing is taken out where nobody asked for it."""
    with odograph.open(tmp_path / "s") as store:
        world = store.world("w")
        id = world.spawn(Mood(name=SECRET))
        world.step()
        assert world.get(id, Mood).name == SECRET


def test_no_secret_is_in_the_answers_that_judges_keep(tmp_path: Path) -> None:
    """Raw answers are kept as the store redacts, be it the answer of a label or of RULER, and are still read again: nothing is paid
    for twice."""
    said = json.dumps({"rationale": f'it said "{SECRET}"', "value": "good", "score": 1.0, "api_key": "q8Zr5TtW0pLmXv2NbK7s"})
    with odograph.open(tmp_path / "s", redact=[r"kitten-\d+"]) as store, JudgeServer(lambda text: said) as server:
        config = LabelingConfig(base_url=server.url, api_key="x", progress=False)
        world = store.world("w", processors=[LabelingProcessor()], resources=[config])  # nothing was recorded yet
        session = Trajectory.from_turns("t", [Turn("user", "hello")])
        world.spawn(session, Label(technique="k", description="d"))
        world.step()
        other = store.world("other", processors=[LabelingProcessor()], resources=[config])
        id = other.spawn(session, Label(technique="k", description="d"))
        other.step()
        assert len(server) == 1 and other.get(id, Label).rationale == 'it said "[redacted:pattern]"'
        with store.record(task="2+2?", group="g") as run, run.step() as step:
            step.llm_call(messages=[{"role": "user", "content": "2+2?"}], response="4")
        judge = odograph.Judge(f"tuned-{SECRET}", server.url, api_key="x", journal=tmp_path / "own")  # a folder of its own, too
        asyncio.run(odograph.ruler(store, judge=judge, rubric="Is it right?", absolute=True))
        assert len(server) > 1
    kept = [*(tmp_path / "s" / "judge").glob("*.jsonl"), *(tmp_path / "own").glob("*.jsonl")]
    assert len(kept) == 2
    for path in kept:
        text = path.read_text()
        assert "it said" in text and SECRET not in text and "q8Zr5TtW0pLmXv2NbK7s" not in text, path
