"""Filters: one list with one check; what they choose, in which order, and what a mistake is told."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import odograph
from odograph.cli.common import filter_flags
from odograph.store.filters import FILTERS, Filters, described
from odograph.store.filters import given as given_of
from odograph.training import formats
from odograph.training.keywords import ExportArgs

ROOT = Path(__file__).parent.parent.parent


def test_the_keywords_are_the_filters() -> None:
    """`FilterArgs`, which editors and type checkers read, has the names of the filters, in the same order; every signature that
    takes filters has them all."""
    assert tuple(odograph.FilterArgs.__annotations__) == FILTERS
    store = odograph.Store
    for takes in (
        *(
            store.trajectories,
            store.summaries,
            store.count,
            store.groups,
            store.dry_run,
            store.score,
            store.validate,
            store.stats,
        ),
        *(odograph.stats, odograph.ruler, odograph.export_to_huggingface),
    ):
        more = list(inspect.signature(takes).parameters.values())[-1]
        assert (more.kind, more.annotation) == (more.VAR_KEYWORD, "Unpack[FilterArgs]"), takes


def test_the_keywords_of_an_export_are_its_filters_and_options(store: odograph.Store, tmp_path: Path) -> None:
    """Type checkers know the filters, and the options of each format that comes with Odograph; and no others."""
    known = set(FILTERS)
    for to in formats.NAMES:
        try:
            store.export(tmp_path / to, to=to, min_rewards=1)  # type: ignore[call-arg]
        except TypeError as error:
            found = re.fullmatch(
                r"no filter or option 'min_rewards'; .*, the options of \S+ (.*); did you mean 'min_reward'\?", str(error)
            )
            assert found, error
            known |= set(found[1].split(", ")) - {"none"}
    assert known == set(ExportArgs.__annotations__)


def test_the_table_of_filters_is_true() -> None:
    """docs/cli.md has a row for each filter: its name, its flags and what it chooses."""
    rows = ["| filter | flag | chooses |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {', '.join(f'`{flag}`' for flag in filter_flags(one))} | {one.text} |" for one in described()]
    assert "\n".join(rows) + "\n\n" in (ROOT / "docs/cli.md").read_text(), "\n".join(rows)
    assert [one.name for one in described() if one.kind is list] == ["ids", "tag", "status", "task_id"]
    assert [one.name for one in described() if one.kind is float] == ["min_reward", "max_reward"]


def test_a_misspelt_filter_is_refused_at_once(store: odograph.Store, tmp_path: Path) -> None:
    """A filter that does not exist is a TypeError where it is given, before anything is read, with the name that was meant."""
    for takes in (store.trajectories, store.summaries, store.count, store.groups, store.validate, store.stats, store.dry_run):
        with pytest.raises(TypeError, match=r"no filter 'min_rewards'; there are: ids, group, .*; did you mean 'min_reward'\?"):
            takes(min_rewards=1)
    with pytest.raises(TypeError, match="no filter 'min_rewards'"):
        store.score(len, min_rewards=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"no filter 'xyz'; there are: .*, limit$"):
        store.trajectories(xyz=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="min_rewards"):
        odograph.export_to_huggingface(store, tmp_path / "out", min_rewards=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="min_rewards"):
        asyncio.run(odograph.ruler(store, judge=odograph.Judge("m", "http://127.0.0.1:1/v1"), min_rewards=1))  # type: ignore[call-arg]
    with pytest.raises(odograph.InvalidInput, match="min_reward is a number, not 'much'"):
        store.trajectories(min_reward="much")  # type: ignore[arg-type]
    with pytest.raises(odograph.InvalidInput, match=r"no status 'complete'; there are: .*; did you mean 'completed'\?"):
        store.trajectories(status="complete")
    for wrong in (True, "1", 1e400 - 1e400):
        with pytest.raises(odograph.InvalidInput, match="max_reward is a number, not "):
            store.count(max_reward=wrong)  # type: ignore[arg-type]
    for wrong in (True, 1.5, ["v1"]):
        with pytest.raises(odograph.InvalidInput, match="policy_version is a text or a whole number, not "):
            store.count(policy_version=wrong)  # type: ignore[arg-type]


def test_values_that_sqlite_cannot_hold(store: odograph.Store) -> None:
    """Numbers beyond 64 bits and bytes that are no Unicode, which a shell can pass, are answered with a sentence or find nothing."""
    store.record(task="t").finish()
    for name in ("group", "agent", "model", "text", "tag", "ids", "task_id", "policy_version"):
        with pytest.raises(odograph.InvalidInput, match=f"{name} is a text of Unicode characters, not "):
            store.count(**{name: "\udcff"})
    assert store.count(limit=10**30) == 1
    assert store.count(policy_version=10**30) == 0
    with pytest.raises(odograph.InvalidInput, match="is a number"):
        store.count(min_reward=10**400)


def test_a_session_of_unknown_time_is_in_no_time_range(store: odograph.Store) -> None:
    """An imported session whose source has no time is in no time range, however wide; without one it is there."""
    with store.record(task="known") as known:
        pass
    with store.record(task="unknown", metadata={"source": {"format": "x"}}) as unknown:
        pass
    assert store.trajectory(unknown.id).started is None
    assert {s.id for s in store.summaries()} == {known.id, unknown.id}
    for given in ("99999w", ("0001-01-01", "9999-12-31"), ("0001-01-01", None), (None, "9999-12-31"), (None, None)):
        assert [s.id for s in store.summaries(time_range=given)] == [known.id]


def test_a_time_that_can_not_be_read_is_told(store: odograph.Store) -> None:
    """What is no time is told, and never taken for an open end."""
    store.record(task="t").finish()
    for wrong in (("soon", None), (None, "2026-13-01"), ("2026-01-01", "tomorrow")):
        with pytest.raises(odograph.InvalidInput, match="is no time; write a time as 2026-01-31 or "):
            store.count(time_range=wrong)
    for pair in (5, ("2026-01-01",), ("2026-01-01", None, None)):
        with pytest.raises(odograph.InvalidInput, match=r"a time range is a length such as '7d' or a pair \(from, to\), not "):
            store.count(time_range=pair)  # type: ignore[arg-type]


def test_newest_or_oldest_first(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trajectories` goes oldest first and lists can show the newest first, by when a session began: of an import that is the
    source's time, not when it was imported. What has no time counts as oldest. A limit takes those at that end, over any number
    of pages."""
    imported = list(range(130))
    random.Random(0).shuffle(imported)
    ids = {n: store.add({"task": n, "start": {"source_time": 10**17 + n, "task": n}}) for n in imported}
    unknown = store.add({"task": "?", "start": {"metadata": {"source": {"format": "x"}}}})
    order = [unknown, *(ids[n] for n in range(130))]
    for n in range(103):
        run = store.record(task=n)
        run.finish()
        order.append(run.id)
    named = sorted(order)
    assert [t.id for t in store.trajectories()] == order
    assert [s.id for s in store.summaries(newest_first=True)] == order[::-1]
    for limit in (0, 1, 100, 150, 233, 234, 1000):
        assert [s.id for s in store.summaries(limit=limit)] == order[:limit]
        assert [s.id for s in store.summaries(newest_first=True, limit=limit)] == order[::-1][:limit]
        assert store.count(limit=limit) == min(limit, 234)
        with monkeypatch.context() as patch:
            patch.setattr("odograph.store.catalog._SOME", 70)  # of those that are named a part is asked for at a time
            assert [s.id for s in store.summaries(ids=named, newest_first=True, limit=limit)] == order[::-1][:limit]
    assert store.count() == len(store) == 234


def test_the_version_of_a_policy(store: odograph.Store) -> None:
    """A policy's version is the same version whether it was recorded, or asked for, as a number or as text."""
    ids = [store.record(policy_version=version).id for version in (3, "3", "3b", None)]
    for asked in (3, "3"):
        assert [s.id for s in store.summaries(policy_version=asked)] == ids[:2]
    assert [s.id for s in store.summaries(policy_version="3b")] == ids[2:3]
    assert [s.policy_version for s in store.summaries()] == [3, "3", "3b", None]


def test_the_runs_of_a_task(store: odograph.Store) -> None:
    """The id of the runtime's task is a filter; given several ids, it chooses the trajectories of any of them."""
    ids = [store.record(metadata={"runtime": {"task_id": task}}).id for task in ("a", "b", "a")] + [store.record(task="a").id]
    for asked, found in (("a", [0, 2]), (["b", "a"], [0, 1, 2]), ("c", [])):
        assert [ids.index(s.id) for s in store.summaries(task_id=asked)] == found


def test_states_that_only_the_writer_tells(tmp_path: Path) -> None:
    """`running` and `unterminated` are filters like the others: they are counted, and limited before anything else is read."""
    script = f"import odograph, os; s = odograph.open({str(tmp_path)!r}); [s.record(task=n) for n in range(3)]; os._exit(0)"
    subprocess.run([sys.executable, "-c", script], check=True)
    with odograph.open(tmp_path) as store:
        running = [store.record(task="now").id for _ in range(2)]
        store.record(task="done").finish()
        imported = store.add({"task": "i", "end": None, "start": {"metadata": {"source": {"format": "x"}}}})
        found = {status: [s.id for s in store.summaries(status=status)] for status in ("running", "unterminated", "completed")}
        assert found["running"] == running
        assert len(found["unterminated"]) == 4 and imported in found["unterminated"]
        assert [store.count(status=status) for status in found] == [2, 4, 1]
        assert store.count(status=["running", "unterminated"]) == 6
        assert store.count(status=["completed", "running"]) == 3
        assert [s.id for s in store.summaries(status="running", limit=1, newest_first=True)] == running[1:]
        for status, ids in found.items():  # a list says what each trajectory says
            assert {s.status for s in store.summaries(status=status)} == {store.trajectory(id).status for id in ids} == {status}


def test_filters_are_a_value() -> None:
    """Checked filters compare, and can't be changed; None is no filter."""
    made = Filters.of({"tag": "a", "limit": 3, "group": None})
    assert made == Filters(tag=("a",), limit=3) != Filters()
    assert given_of({"group": None, "agent": "a", "limit": 0}) == {"agent": "a", "limit": 0}
    with pytest.raises(AttributeError):
        made.limit = 4  # type: ignore[misc]
