"""Readers that a seal or a compaction overtakes at any moment of a question: the answer is the same, and whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.store import databases, query
from odograph.tables.files import Opened
from odograph.tables.folder import FolderCommits

pytest.importorskip("pyarrow")

QUESTIONS: dict[str, Callable[[odograph.Store], Any]] = {
    "trajectories": lambda s: [t.to_dict() for t in s.trajectories()],
    "summaries": lambda s: list(s.summaries()),
    "search": lambda s: sorted((h.trajectory, h.kind, h.step or 0) for h in s.search("needle")),
    "text": lambda s: [one.id for one in s.summaries(text="needle")],
    "damages": lambda s: s.damages(),
    "tail": lambda s: [record.id for record in s.tail(100)],
    "used": lambda s: s.used([one.id for one in s.summaries()]),
    "facts": lambda s: s.sql("select kind, count(*) as n from facts group by 1 order by 1").list(),
    "messages": lambda s: s.sql("select body from messages order by body").list(),
}


def make(root: Path) -> None:
    """Three journals: two are sealed, and one is not, in which a sealed trajectory goes on, too."""
    with odograph.open(root) as store:
        ids = []
        for k in range(3):
            with store.record(task=f"task {k}") as run, run.step() as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": f"needle {k}"}], response="x")
                step.action("a", {}, "a needle", ok=True)
                run.reward(k / 4)
            ids.append(run.id)
            if k < 2:
                store.seal()
        store.append(ids[0]).reward(0.5, name="late")


@contextmanager
def overtaken(at: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """`act` runs before the question that is asked of the list of files, or of a file, as number `at`. Gives how many were."""
    asked = [0]
    acting = []

    def before(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **given: Any) -> Any:
            if not acting:
                asked[0] += 1
                if asked[0] == at:
                    acting.append(1)
                    act()
                    acting.clear()
            return method(*args, **given)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(FolderCommits, "_rows", before(FolderCommits._rows))
        patch.setattr(Opened, "__init__", before(Opened.__init__))
        yield asked


def compacted(root: Path) -> None:
    with odograph.open(root) as other:
        other.seal()
        other.compact(grace=0)


def sealed(root: Path) -> None:
    with odograph.open(root) as other:
        other.seal()


def ask_at_each_moment(root: Path, question: str, act: Callable[[Path], None], cold: bool, patch: pytest.MonkeyPatch) -> None:
    make(root / "made")
    with odograph.open(root / "made") as store:
        expected = QUESTIONS[question](store)
    moments, at = 1, 0
    while at < moments:
        at += 1
        where = root / str(at)
        shutil.copytree(root / "made", where)
        for path in where.glob("catalog.sqlite*") if cold else ():
            path.unlink()
        with odograph.open(where) as store, overtaken(at, lambda: act(where), patch) as asked:  # noqa: B023
            found = QUESTIONS[question](store)
            moments = asked[0]
        assert found == expected, f"at moment {at} of {moments}"
        shutil.rmtree(where)
    assert at > 3


@pytest.mark.parametrize(("question", "act", "cold"), [("summaries", sealed, True), ("search", compacted, False)])
def test_a_seal_at_any_moment_of_a_question_changes_no_answer(
    tmp_path: Path, question: str, act: Callable[[Path], None], cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process seals, or seals and merges all files without a grace time, at any moment while a question is answered: the
    answer has each trajectory, and each hit once."""
    ask_at_each_moment(tmp_path, question, act, cold, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("act", [sealed, compacted])
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_at_every_moment(
    tmp_path: Path, question: str, act: Callable[[Path], None], cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of all questions, with a catalog and without."""
    ask_at_each_moment(tmp_path, question, act, cold, monkeypatch)


def test_files_that_a_query_was_about_to_read_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process merges the files and deletes them once a query is planned: the query reads what they became."""
    make(tmp_path)
    with odograph.open(tmp_path) as store:
        expected = QUESTIONS["facts"](store)
        locked = databases.lock

        def planned(*of: Any) -> None:
            monkeypatch.undo()
            compacted(tmp_path)
            locked(*of)

        monkeypatch.setattr(databases, "lock", planned)
        assert QUESTIONS["facts"](store) == expected


def test_a_query_that_is_overtaken_each_time_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process seals whenever the query has read the journal: a sentence says what to do, and no half of an answer is given."""
    make(tmp_path)
    read = query._local
    with odograph.open(tmp_path) as store, odograph.open(tmp_path) as other:

        def overtaken(*of: Any) -> Any:
            found = read(*of)
            other.record(task="more").finish()
            other.seal()
            return found

        monkeypatch.setattr(query, "_local", overtaken)
        with pytest.raises(odograph.StoreError, match="run the query again"):
            QUESTIONS["facts"](store)
        monkeypatch.undo()
        assert store.sql("select count(*) as n from trajectories").list() == [{"n": other.count()}]
