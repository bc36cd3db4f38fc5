"""Figures by columns out of the sealed tier are those that the catalog's rows give."""

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.codec import new_id
from odograph.store import columnar, committing, figures
from odograph.store.filters import EVERY, Filters
from odograph.tables.files import Opened
from odograph.types import LLMCall, Note, Reward, Start

SAID = ("status", "steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens", "reward", "started")
pytest.importorskip("pyarrow")
pytest.importorskip("numpy")


def record(store: odograph.Store, chance: random.Random, *, alone: bool = False) -> None:
    """A trajectory with whatever a summary may hold; `alone`: in no group."""
    about: dict[str, Any] = {}
    if not alone and chance.random() < 0.5:
        about["group"] = f"g{chance.randint(0, 3)}"
    if chance.random() < 0.3:
        about["tags"] = chance.sample(["a", "b", "c"], chance.randint(1, 2))
    if chance.random() < 0.1:
        about["metadata"] = {"replay_of": "x"}
    if chance.random() < 0.2:
        about["metadata"] = {"runtime": {"task_id": chance.choice(["t1", "other"]), "attempt": 1}}
    task = chance.choice(["t1", "t2", {"x": 1}, None, 5])
    with store.record(task=task, agent=chance.choice(["a", "b"]), **about) as run:
        for _ in range(chance.randint(0, 2)):
            with run.step(observation="x") as step:
                usage = chance.choice([None, {"prompt_tokens": chance.randint(0, 9), "completion_tokens": 1}])
                step.llm_call(model=chance.choice("mn"), messages=[{"role": "user", "content": "x"}], response="y", usage=usage)
                if chance.random() < 0.5:
                    step.action(chance.choice("st"), {"q": 1}, "z")
                if chance.random() < 0.2:
                    step.reward(chance.random())
        if chance.random() < 0.5:
            run.reward(chance.choice([0, 1, chance.random(), None]), name=chance.choice(["reward", "won"]))
        else:
            for name in chance.sample("xyz", chance.randint(0, 3)):
                value = chance.choice([chance.random(), None, float("inf"), 1e300])
                run.reward(value, name=name, weight=chance.choice([0, 1, 0.5]))
        if chance.random() < 0.3:
            run.finish(status="failed")


def session(started: str | None, n: int) -> dict[str, Any]:
    """A session of somebody else's, of a known time or of none, with totals that the source states."""
    about = {"source": {"format": "x", "totals": {"llm_calls": 7, "prompt_tokens": n}}}
    return {"id": f"session-{n}", "task": f"s{n}", "started": started, "metadata": about, "reward": n / 7}


def figures_of(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> odograph.Stats:
    """The figures of a store by columns, which are those that its catalog gives."""
    monkeypatch.setattr(columnar, "FEWEST", 0)
    found = store.backend.reader.columns()
    assert found is not None
    pages = list(store.backend.reader.figures())
    assert [None if math.isnan(r) else r for r in found.reward.tolist()] == [r for page in pages for r in page.reward]
    assert [found.statuses[n] for n in found.status] == [status for page in pages for status in page.status]
    done = [{*uses, *(("tag", tag) for tag in tags)} for p in pages for uses, tags in zip(p.uses, p.tags, strict=True)]
    assert [found.labels[n] for n in found.label] == done
    tasks, same = [task for page in pages for task in page.task], found.task.tolist()
    assert [None if n < 0 else same.index(n) for n in same] == [None if one is None else tasks.index(one) for one in tasks]
    by_columns = store.stats(success=0.5)
    monkeypatch.setattr(columnar, "FEWEST", 10**9)
    assert store.backend.reader.columns() is None
    assert repr(store.stats(success=0.5)) == repr(by_columns)
    return by_columns


@pytest.mark.parametrize("seed", range(4))
def test_columns_give_what_the_catalog_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """`stats` of a sealed store is the same whether it reads columns or the catalog: sealed in several rounds, with rewards that
    came late, rewards of several names, sessions of one time or of none, runs without an end or a start, lines that are not sealed,
    in files with and without bounds. All of both are in one order."""
    chance = random.Random(seed)
    if seed in (0, 3):
        monkeypatch.setattr(committing, "_SMALL", 0)
    if seed == 2:
        monkeypatch.setattr(columnar, "_FEW", 0)
    with odograph.open(tmp_path / "runs", seal_at=0) as store:
        for _ in range(3):
            for _ in range(12):
                record(store, chance, alone=seed == 3)
            for n in chance.sample(range(9), 3):
                at = chance.choice([1, 10**18])
                note = Note(trajectory=new_id(), id=new_id(), time=at + n, seq=1)
                store.add([note, Reward(trajectory=note.trajectory, id=new_id(), value=n / 9, time=at + n + 1, seq=2)])
            for _ in range(4):
                store.add(session(chance.choice([None, "2026-01-01", "2026-05-01"]), chance.randint(0, 10**6)))
            store.seal()
            for id in chance.sample([s.id for s in store.summaries()], 3):
                store.append(id).reward(chance.random(), name=chance.choice(["reward", "late"]))
        if seed == 1:
            store.seal()
            store.compact(grace=0)
        if seed == 2:
            running = store.record(task="t1")
            running.__enter__()
        monkeypatch.setattr(columnar, "_LATE", 1)
        by_columns = figures_of(store, monkeypatch)
        assert by_columns.whole.trajectories > 40
        assert len(by_columns.components) > 4


def sessions(root: Path, store: odograph.Store) -> None:
    """Nothing but sessions of somebody else's, of which each has what the others have."""
    for n in range(3):
        store.add(session("2026-01-01", n))


def differing_files(root: Path, store: odograph.Store) -> None:
    """A file in which nobody has a task, a tag or a use; then one of long ones, which differ at their ends."""
    for value in (0.0, 1.0):
        store.add([Reward(trajectory=new_id(), id=new_id(), value=value, time=1, seq=1)])
    store.seal()
    for n in range(3):
        with store.record(task="t" * 99 + str(n % 2), tags=["a" * 99 + str(n)]) as run, run.step() as step:
            step.action("u" * 99 + str(n), {}, ok=True)
            run.reward(n % 2)


def sealed_twice(root: Path, store: odograph.Store) -> None:
    """Ids that are UUIDs, or nearly, or not at all, in three files; another one has a later row of each."""
    uuid, other = new_id(), new_id()
    for ids in ([uuid, uuid.upper(), "x" * 36], [other.replace("-", digit) for digit in "01"], ["some id", "another"]):
        for n, id in enumerate(ids):
            store.add([Reward(trajectory=id, id=new_id(), value=n, time=n, seq=1)])
        store.seal()
    for summary in list(store.summaries()):
        store.append(summary.id).reward(0.5, name="late")


def with_late_one(root: Path, store: odograph.Store) -> None:
    """One file, and a reward that came late."""
    for n in range(3):
        store.record(task=n).reward(n)
    store.seal()
    store.append(next(iter(store.summaries())).id).reward(0.5)


def with_a_torn_call(root: Path, store: odograph.Store) -> None:
    """Messages of a call whose own line is lost: a machine crashed."""
    with store.record(task="t") as run:
        run.reward(1)
    with odograph.open(root) as other:
        call = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        other.add([LLMCall(trajectory=new_id(), id=new_id(), request=call, time=1, seq=1)])
    begins = b'{"kind":"llm_call"'
    (path,) = (path for path in (root / "journal").iterdir() if begins in path.read_bytes())
    lines = path.read_bytes()
    path.write_bytes(lines[: lines.index(begins)])


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("make", [sessions, differing_files, sealed_twice, with_late_one, with_a_torn_call])
def test_columns_say_all_of_any_files(
    make: Callable[[Path, odograph.Store], None], small: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all that another one writes was sealed this moment, or little came late, columns have figures, and those of the
    catalog, whatever the files hold."""
    monkeypatch.setattr(committing, "_SMALL", small)
    monkeypatch.setattr(columnar, "_ROWS", 2)
    with odograph.open(tmp_path, seal_at=0) as store, odograph.open(tmp_path, seal_at=0) as writing:
        make(tmp_path, writing)
        if make is with_late_one:
            monkeypatch.setattr(columnar, "_LATE", 1)
        else:
            os.utime(tmp_path / "journal", (1, 1))  # no file came lately: files are looked at each second
            store.count()
            store.seal()
        figures_of(store, monkeypatch)


@pytest.mark.parametrize("times", [[(1, 3), (1, 1), (1, 2)], [(2, 1), (1, 2)]])
def test_columns_are_in_the_order_of_lists(times: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs come in the order in which they began, and of those that began at once the one that was written down first comes first,
    whatever their ids are."""
    monkeypatch.setattr(columnar, "FEWEST", 0)
    with odograph.open(tmp_path / "runs", seal_at=0) as store:
        for id, (began, first) in zip("abc", times, strict=False):
            start = Start(trajectory=id, task="t", id=new_id(), time=first, seq=1, source_time=began)
            store.add([start, Reward(trajectory=id, id=new_id(), value=float(first), time=9, seq=2)])
        store.seal()
        found = store.backend.reader.columns()
        assert found is not None
        assert found.reward.tolist() == [s.reward for s in store.summaries()] == [first for _, first in sorted(times)]


class Earlier(committing.Writer):
    """Writes files as versions did that knew no columns of rewards."""

    def __init__(self, root: Path, path: str, table: Any, *rest: Any, **how: Any) -> None:
        super().__init__(root, path, table.only([n for n in table.names if not n.startswith("reward_")]), *rest, **how)

    def write(self, rows: Any) -> None:
        super().write(rows.drop_columns([name for name in rows.column_names if name.startswith("reward_")]))


@pytest.mark.parametrize("writer", [Earlier, committing.Writer])
def test_what_columns_can_not_say_the_catalog_says(
    writer: type[committing.Writer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures are right where an earlier version wrote a file of the tier, or a file is gone, and where filters choose."""
    chance = random.Random(9)
    monkeypatch.setattr(committing, "Writer", writer)
    with odograph.open(tmp_path / "runs", seal_at=0) as store:
        for _ in range(20):
            record(store, chance)
        store.seal()
        whole = store.stats()
        monkeypatch.setattr(columnar, "FEWEST", 0)
        assert (store.backend.reader.columns() is None) == (writer is Earlier)
        assert repr(store.stats()) == repr(whole)
        assert store.stats(agent="a").whole.trajectories == store.count(agent="a") < whole.whole.trajectories
        shutil.rmtree(tmp_path / "runs" / "lake" / "trajectories")
        assert store.backend.reader.columns() is None
        assert repr(store.stats()) == repr(whole)


def test_figures_are_as_of_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process adds to all that there is and seals, once a file is about to be read: figures are those of then, not some
    of before and some of then."""
    with odograph.open(tmp_path, seal_at=0) as store:
        for n in range(3):
            store.record(task="t").reward(n)
            store.seal() if n < 2 else store.count()
        opened = Opened.__init__

        def overtaken(*args: Any, **given: Any) -> None:
            monkeypatch.setattr(Opened, "__init__", opened)
            with odograph.open(tmp_path) as other:
                for id in [summary.id for summary in other.summaries()]:
                    other.append(id).reward(9.0)
                other.record(task="new").reward(9.0)
                other.seal()
            opened(*args, **given)

        monkeypatch.setattr(columnar, "FEWEST", 0)
        monkeypatch.setattr(columnar, "_LATE", 1)
        monkeypatch.setattr(Opened, "__init__", overtaken)
        found = store.stats()
        monkeypatch.setattr(columnar, "FEWEST", 10**9)
        assert repr(store.stats()) == repr(found)


@pytest.mark.parametrize("sealed", [False, True])
def test_pages_of_figures_say_what_summaries_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool) -> None:
    """Over any number of pages, with a limit, a filter or none: the same trajectories in the same order, with the same values."""
    monkeypatch.setattr(figures, "PAGE", 3)
    chance = random.Random(4)
    with odograph.open(tmp_path / "runs", seal_at=0) as store:
        for n in range(8):
            record(store, chance)
            store.add(session(chance.choice([None, "2026-01-01"]), n))
        for n in range(3):  # a page of which each has one reward, of one name
            with store.record(task=n, agent="same") as run:
                run.reward(n, name="won")
        if sealed:
            store.seal()
        store.record(task="open").reward(1.0, name="so far")
        reader = store.backend.reader
        for given in (
            {},
            {"agent": "a"},
            {"agent": "same"},
            {"ids": [s.id for s in store.summaries()][2:9]},
            *({"limit": n} for n in (0, 1, 3, 4, 9, 99)),
        ):
            filters = Filters.of(given)
            for by in (None, "group", "agent", "model", "policy_version"):
                pages = list(reader.figures(filters, by))
                assert all(0 < len(page.task) <= 3 for page in pages)
                rewards: list[dict[str, Any]] = [{} for page in pages for _ in page.task]
                for number, page in enumerate(pages):
                    for name, (places, values) in page.components.items():
                        for place, value in zip(places, values, strict=True):
                            rewards[3 * number + place][name] = value
                ids = [s.id for s in store.summaries(**given)]
                used = store.used(ids)
                assert rewards == [used[id].components if id in used else {} for id in ids]
                rows = [
                    row for page in pages for row in zip(*(getattr(page, name) for name in (*SAID, "tags", "key")), strict=True)
                ]
                wanted = [
                    (*(getattr(s, name) for name in SAID), s.tags, getattr(s, by) if by else None)
                    for s in store.summaries(**given)
                ]
                assert [(*row[:-2], [*row[-2]], row[-1]) for row in rows] == [(*row[:-2], [*row[-2]], row[-1]) for row in wanted]


def test_attempts_of_one_task_have_its_number_in_common(tmp_path: Path) -> None:
    """Trajectories of a group are one task; others are by the task's id, which is the task where it has the same text; else each by
    its task, and none that has no task."""
    with odograph.open(tmp_path / "runs") as store:
        for about in (
            *(
                {"task": "x", "group": "g"},
                {"task": "y", "group": "g"},
                {"task": "x"},
                {"task": "x"},
                {"task": "y"},
                {"task": "g"},
            ),
            *({"task": "q", "metadata": {"runtime": {"task_id": id}}} for id in ("x", "other", "other")),
            *({"task": None}, {"task": None}),
        ):
            store.record(**about).finish()
        (page,) = store.backend.reader.figures(EVERY, None)
        same_as = [None if number is None else page.task.index(number) for number in page.task]
        assert same_as == [0, 0, 2, 2, 4, 5, 2, 7, 7, None, None]
