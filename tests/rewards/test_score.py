"""Scoring a store: once, in parallel, superseding, resumed after a kill, and never stopped by content."""

from __future__ import annotations

import asyncio
import json
import math
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odograph
from odograph import InvalidInput, NotFound, rewards
from tests.rewards import functions_of_files as mine
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
FILE = Path(mine.__file__)


def fill(store: odograph.Store, count: int, steps: int = 2, **about: Any) -> list[str]:
    """Finished trajectories, their number as the task."""
    ids = []
    for n in range(count):
        with store.record(task=n, agent="a", **about) as run:
            for k in range(steps):
                with run.step({"k": k}) as step:
                    step.action("act", {"n": n}, {"k": k}, ok=True)
        ids.append(run.id)
    return ids


def written(store: odograph.Store) -> int:
    """Reward records in the journal's files."""
    return sum(p.read_bytes().count(b'"kind":"reward"') for p in (store.root / "journal").glob("*.jsonl"))


def rewards_of(store: odograph.Store) -> list[float | None]:
    return [t.reward for t in store.trajectories()]


def test_functions_of_groups(store: odograph.Store) -> None:
    """`per="group"`: a value for each trajectory of a group, in their order. Once, until the group has another member; what is in no
    group is left, and what is still being recorded joins its group when it has ended."""

    @odograph.reward(per="group")
    def rank(group):
        return [sorted(t.task for t in group).index(t.task) for t in group]

    fill(store, 3, group="g")
    fill(store, 2, group="h")
    fill(store, 1)
    first = store.score(rank)
    assert (first.scored, first.no_group, first.records) == (5, 1, 5)
    assert rewards_of(store) == [0.0, 1.0, 2.0, 0.0, 1.0, None]
    assert store.score(rank).records == 0
    late = store.record(task=-1, agent="a", group="g")
    waits = store.score(rank)
    assert (waits.running, waits.unchanged, waits.records) == (1, 5, 0)
    with late:
        pass
    grown = store.score(rank)
    assert (grown.scored, grown.superseded, grown.unchanged) == (4, 3, 2)
    assert rewards_of(store) == [1.0, 2.0, 3.0, 0.0, 1.0, None, 0.0]


def test_a_function_of_groups_that_fails_costs_its_group_alone(store: odograph.Store) -> None:
    """An exception, too few values, or NaN for one: the report names them, and the other groups have their rewards."""
    fill(store, 2, group="bad")
    fill(store, 2, group="short")
    fill(store, 2, group="nan")
    fill(store, 2, group="good")

    @odograph.reward(per="group")
    def some(group):
        if group[0].group == "bad":
            raise ValueError("no")
        return {"short": [1.0], "nan": [1.0, math.nan], "good": [0.25, 0.75]}[group[0].group]

    report = store.score(some)
    assert [f["error"] for f in report.failed] == [
        *["ValueError: no"] * 2,
        *["it gave 1 values; one for each of 2 trajectories was expected"] * 2,
        "the function returned nan; a finite number was expected, or None for an unknown reward",
    ]
    assert rewards_of(store) == [None, None, None, None, 1.0, None, 0.25, 0.75]


def test_what_a_failed_function_says_is_redacted(tmp_path: Path) -> None:
    """The error of a function holds what the function has: where the store redacts, the report says it redacted."""
    secret = "sk-proj-a8Kd93jfLqp0Zx7Bv2Nm5Rt1Ys6Uw4Eo"

    def compute(t: Any) -> float:
        raise ValueError(f"refused: {secret}")

    with odograph.open(tmp_path / "s", redact=True) as store:
        fill(store, 1)
        (failed,) = store.score(compute).failed
    assert failed["error"].startswith("ValueError: refused: [redacted:")
    assert secret not in failed["error"]


@pytest.mark.parametrize("later", [False, True])
def test_group_min_max(store: odograph.Store, later: bool) -> None:
    """From 0 for the lowest of its group to 1 for the highest; 0.5 where all are the same; None stays None, and waits for nobody."""
    values = {"g": [3.0, None, 5.0, 4.0], "same": [7.0, 7.0, 7.0, 7.0], "huge": [-1.7e308, 1.7e308, 0.0, 0.0]}
    for group in values:
        fill(store, 4, group=group)

    def now(t):
        return values[t.group][t.task]

    async def then(t):
        return values[t.group][t.task]

    part = odograph.reward_function("profit", then if later else now, version="1")
    report = store.score(rewards.group_min_max(part))
    assert report.function == "group_min_max_profit" and report.waiting == 1
    assert rewards_of(store) == [0.0, None, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0, 0.5, 0.5]
    with pytest.raises(
        InvalidInput, match=r"weighted_sum is of functions of trajectories alone, or of steps alone; found: .*\(group\)"
    ):
        rewards.weighted_sum([(rewards.group_min_max(part), 1.0)])


@pytest.mark.parametrize("sealed", [False, True])
def test_scoring_twice_writes_nothing(store: odograph.Store, sealed: bool) -> None:
    """A function's rewards are appended once, by its name and version; the second run reads no trajectory, also once all is sealed."""
    fill(store, 3)
    seen: list[str] = []

    @odograph.reward
    def count(t):
        seen.append(t.id)
        return len(t.steps)

    first = store.score(count)
    assert (first.trajectories, first.scored, first.records, first.ok) == (3, 3, 3, True)
    assert written(store) == 3
    if sealed:
        pytest.importorskip("pyarrow")
        store.seal()
    again = store.score(count)
    assert (again.scored, again.unchanged, again.records) == (0, 3, 0)
    assert len(seen) == 3
    assert written(store) == (0 if sealed else 3)
    (reward,) = next(store.trajectories()).rewards
    assert (reward.name, reward.value, reward.source, reward.author, reward.version) == (
        "count",
        2.0,
        "function",
        "count",
        count.version,
    )
    assert rewards_of(store) == [2.0] * 3
    assert [s.reward for s in store.summaries()] == [2.0] * 3
    fill(store, 1)
    assert store.score(count).scored == 1
    assert len(seen) == 4


def test_a_new_version_supersedes_the_old(store: odograph.Store) -> None:
    """What counts is the newest version alone: components that it has no more, and what it does not know, count no more either.
    The history stays, and going back to the old version supersedes in turn."""
    fill(store, 2)
    one = odograph.reward_function("f", lambda t: {"a": 1.0, "b": 2.0}, version="1")
    two = odograph.reward_function("f", lambda t: {"a": 5.0} if t.task == 0 else None, version="2")
    assert store.score(one).records == 4
    assert rewards_of(store) == [3.0, 3.0]
    report = store.score(two)
    assert (report.scored, report.waiting, report.superseded) == (1, 1, 4)
    assert rewards_of(store) == [5.0, None]
    assert [s.reward for s in store.summaries()] == [5.0, None]
    assert store.score(two).records == 0
    first = next(store.trajectories())
    assert sorted(r.value for r in first.records if isinstance(r, odograph.types.Reward) and r.version == "1") == [1.0, 2.0]
    assert {r.version for r in first.rewards} == {"2"}
    assert store.score(one).scored == 2
    assert rewards_of(store) == [3.0, 3.0]


def test_the_version_is_the_source_unless_declared(store: odograph.Store) -> None:
    """Another body, parameter or closed-over number is another version; the same text is the same one, in another process too."""

    def made(k: float) -> odograph.RewardFunction:
        @odograph.reward
        def f(t):
            return k

        return f

    assert made(1).version == made(1).version != made(2).version
    assert rewards.length.using(limit=3).version != rewards.length.using(limit=4).version
    assert odograph.reward_function("f", lambda t: 1.0).version != odograph.reward_function("f", lambda t: 2.0).version
    code = "from tests.rewards import functions_of_files as f; print(f.steps.version, f.half_of_steps.version)"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.split() == [mine.steps.version, mine.half_of_steps.version]


def test_what_is_not_known_yet_is_asked_for_again(store: odograph.Store) -> None:
    """None writes nothing and is no 0; when the outcome is noted, from another process a week later, only that one is scored."""
    ids = fill(store, 3)
    assert store.score("outcome").waiting == 3
    assert rewards_of(store) == [None] * 3
    code = f"import odograph; s = odograph.open({str(store.root)!r}); s.append({ids[1]!r}).note(0.0, name='outcome'); s.close()"
    subprocess.run([sys.executable, "-c", code], check=True)
    report = store.score("outcome")
    assert (report.scored, report.waiting, report.records) == (1, 2, 1)
    assert rewards_of(store) == [None, 0.0, None]
    assert store.score("outcome").unchanged == 1


def test_components_are_filled_in_when_they_are_known(store: odograph.Store) -> None:
    """Of a mapping what is known is written at once, the rest when it is; weights are by component, and 0 only monitors."""
    fill(store, 1)
    known: dict[str, float | None] = {"form": 1.0, "pnl": None, "seen": 9.0}
    f = odograph.reward_function("f", lambda t: known, version="1", weight={"pnl": 0.5, "seen": 0.0})
    assert (store.score(f).records, rewards_of(store)) == (3, [None])  # the null is recorded: what is known is not the whole
    assert store.score(f).records == 0
    known["pnl"] = 4.0
    report = store.score(f)
    assert (report.scored, report.waiting, report.records, rewards_of(store)) == (1, 0, 1, [3.0])
    assert store.score(f).unchanged == 1
    assert next(store.trajectories()).rewards["seen"] == 9.0


def test_rewards_of_steps(store: odograph.Store) -> None:
    """`per="step"`: each step gets its own, with the trajectory at hand; steps that come later are scored, alone."""
    (id,) = fill(store, 1)
    asked: list[int] = []

    @odograph.reward(per="step")
    def progress(step, trajectory):
        asked.append(step.index)
        return None if step.index == 1 and len(trajectory.steps) < 3 else step.index / len(trajectory.steps)

    report = store.score(progress)
    assert (report.scored, report.waiting) == (1, 1)
    with store.append(id) as more, more.step():
        pass
    report = store.score(progress)
    assert (report.scored, report.waiting, report.records) == (1, 0, 2)
    assert asked == [0, 1, 1, 2]
    assert [s.reward for s in store.trajectory(id).steps] == [0.0, 1 / 3, 2 / 3]
    assert store.score(progress).unchanged == 1
    # of the trajectory from now on: the steps' rewards count no more
    store.score(odograph.reward_function("progress", lambda t: 7.0))
    assert [s.reward for s in store.trajectory(id).steps] == [None] * 3
    assert store.trajectory(id).reward == 7.0


def test_rewards_of_steps_of_several_agents(store: odograph.Store) -> None:
    """Steps of one index of two agents are two steps: each is scored once, and then nothing is left."""
    with store.record(task="t") as run:
        for scope in (run, run.sub_agent("helper")):
            scope.step()
    given = odograph.reward_function("n", lambda step: 1.0, per="step")
    assert store.score(given).records == 2
    assert store.backend.reader.scored(given.source, "n", given.version) == {run.id: 2}
    assert store.score(given).unchanged == 1


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Panic(BaseException):
    """What some libraries raise, that no `except Exception` sees."""


def test_a_failure_costs_its_trajectory_alone(store: odograph.Store) -> None:
    """An exception, an exit, NaN, infinity, text or a wrong component: the trajectory has no reward, the report the reason."""
    bad: list[tuple[Any, str]] = [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (SystemExit(3), "SystemExit: 3"),
        (Panic("of Rust"), "Panic: of Rust"),
        (GeneratorExit(), "GeneratorExit"),
        ({"\ud800": 1.0}, "half a surrogate pair"),
        (Hostile(), "Hostile"),
        (RecursionError(), "RecursionError"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("0.5", "returned str"),
        ({"a": 1.0, "b": math.nan}, "nan as 'b'"),
        ({1: 1.0}, "component's name"),
        ([1.0], "returned list"),
        (10**400, "no number"),
        (1 + 2j, "returned complex"),
    ]
    fill(store, len(bad) + 2)

    def compute(t: Any) -> Any:
        if t.task >= len(bad):
            return [True, Decimal("0.25")][t.task - len(bad)]
        what = bad[t.task][0]
        if isinstance(what, BaseException):
            raise what
        return what

    for kwargs in ({}, {"concurrency": 4}):
        report = store.score(odograph.reward_function("f", compute, version=f"{kwargs}"), **kwargs)
        reasons = {f["trajectory"]: f["error"] for f in report.failed}
        found = [reasons.get(t.id) for t in store.trajectories()]
        assert found[len(bad) :] == [None, None]
        for reason, (_, expected) in zip(found, bad, strict=False):
            assert reason is not None
            assert expected in reason
            assert "\n" not in reason
        assert rewards_of(store) == [None] * len(bad) + [1.0, 0.25]
        assert not report.ok


def test_a_value_outside_of_its_range_is_refused(store: odograph.Store) -> None:
    """`range` is a promise that is held: both ends belong to it."""
    fill(store, 3)
    report = store.score(odograph.reward_function("f", lambda t: t.task, range=(0, 1)))
    assert (report.scored, [f["error"] for f in report.failed]) == (
        2,
        ["the function returned 2.0, outside of its range 0.0 to 1.0"],
    )


def test_async_functions_run_at_once_also_inside_a_loop(store: odograph.Store) -> None:
    """An async function runs as many tasks as `concurrency` says and no more, from a script and from a notebook's loop; one that
    is cancelled from within fails its trajectory alone."""
    fill(store, 12)
    now, most = 0, 0

    async def f(t: Any) -> float:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        if t.task == 5:
            raise asyncio.CancelledError
        return t.task

    report = store.score(odograph.reward_function("f", f, version="1"), concurrency=4)
    assert (report.scored, len(report.failed), most) == (11, 1, 4)

    async def notebook() -> Any:
        return store.score(odograph.reward_function("f", f, version="2"))

    assert asyncio.run(notebook()).scored == 11
    assert most == 12
    assert store.score(odograph.reward_function("g", lambda t: f(t), version="1")).scored == 11


def test_threads_run_functions_that_wait(store: odograph.Store) -> None:
    """A plain function that waits runs as often at once as `concurrency` says."""
    fill(store, 8)
    meet = threading.Barrier(4)
    assert store.score(odograph.reward_function("f", lambda t: meet.wait() >= 0), concurrency=4).scored == 8


def test_processes(store: odograph.Store) -> None:
    """Functions that compute run in processes, which write nothing themselves; one that can't be sent there says so, one that
    kills its process is named."""
    fill(store, 100)
    told: list[tuple[int, int]] = []
    report = store.score(mine.half_of_steps, processes=2, progress=lambda done, total: told.append((done, total)))
    assert (report.scored, told[-1]) == (100, (100, 100))
    assert store.score(f"{FILE}:later", processes=2).scored == 100
    assert store.score(rewards.step_efficiency.using(budget=4), processes=2).scored == 100
    assert len(list((store.root / "journal").glob("*.jsonl"))) == 1
    with pytest.raises(InvalidInput, match=r"f can't be sent to other processes .* leave processes out"):
        store.score(odograph.reward_function("f", lambda t: 1.0), processes=2)
    with pytest.raises(odograph.OdographError, match="scored by dies died"):
        store.score(mine.dies, processes=2)


def test_what_is_still_being_recorded_is_left_for_later(store: odograph.Store) -> None:
    """A running trajectory has no final reward yet: it is scored when it has ended, or where it is asked for."""
    with store.record(task=1) as run:
        assert store.score(mine.steps).running == 1
        with run.step():
            pass
    assert store.score(mine.steps).scored == 1
    assert rewards_of(store) == [1.0]
    with store.record(task=1):
        assert store.score(mine.steps, status="running").scored == 1


def test_again_is_for_functions_of_what_changes_elsewhere(store: odograph.Store) -> None:
    """`again` asks for all anew, and writes what came out otherwise."""
    fill(store, 2)
    price = {0: 1.0, 1: 1.0}
    f = odograph.reward_function("f", lambda t: price[t.task], version="1")
    store.score(f)
    price[1] = 3.0
    assert store.score(f).records == 0
    report = store.score(f, again=True)
    assert (report.scored, report.unchanged, report.superseded, rewards_of(store)) == (1, 1, 1, [1.0, 3.0])


def test_filters_and_misuse(store: odograph.Store) -> None:
    """The filters of `trajectories` choose; a name, a parameter or a number that can't be used is refused in a sentence."""
    fill(store, 2, group="x")
    fill(store, 1, group="y")
    assert store.score(mine.steps, group="x").scored == 2
    assert odograph.open(store.root / "nothing").score("success").trajectories == 0
    assert not (store.root / "nothing").exists()
    with pytest.raises(NotFound, match="no reward function 'nope'; there are: completion"):
        store.score("nope")
    with pytest.raises(InvalidInput, match=r"length needs a parameter: length.using\(limit=...\)"):
        store.score("length")
    with pytest.raises(InvalidInput, match="has no parameter 'limt'; it has: limit, unit, slack"):
        rewards.length.using(limt=3)
    with pytest.raises(InvalidInput, match="processes is 1 or more, not 0"):
        store.score("success", processes=0)
    with pytest.raises(InvalidInput, match=r"functions_of_files.py has .*steps.*; name one"):
        store.score(str(FILE))
    with pytest.raises(TypeError, match="no filter 'grp'"):
        store.score("success", grp="x")
    with pytest.raises(TypeError, match="a lambda has no name"):
        odograph.reward(lambda t: 1.0)
    with pytest.raises(TypeError, match="a weight is a finite number"):
        odograph.reward_function("f", lambda t: 1.0, weight=math.nan)


def _slowly(root: Path, log: Path, most: int = 1000) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "odograph", "--store", str(root), "score", f"{FILE}:slow", "--processes", "1"]
    return subprocess.Popen(command, env={**os.environ, "SLOW_LOG": str(log), "SLOW_MOST": str(most)}, stdout=subprocess.DEVNULL)


def test_killed_in_the_middle_and_resumed(store: odograph.Store, tmp_path: Path) -> None:
    """After SIGKILL what was scored stands, whole; scoring again does the rest, and at most the one that was on its way twice."""
    fill(store, 60)
    log = tmp_path / "log"
    process = _slowly(store.root, log, most=20)
    until(lambda: log.exists() and log.read_text().count("\n") == 20, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [t for t in store.trajectories() if t.rewards]
    assert len(done) == 19
    assert all(len(t.rewards) == 2 for t in done)
    assert _slowly(store.root, log).wait() == 0
    assert rewards_of(store) == [0.75] * 60
    assert written(store) == 120
    asked = log.read_text().split()
    assert len(set(asked)) == 60
    assert len(asked) == 61


def test_two_processes_at_once(store: odograph.Store, tmp_path: Path) -> None:
    """Two that score by the same function take turns: each trajectory is asked of once and has each reward once."""
    fill(store, 40)
    log = tmp_path / "log"
    both = [_slowly(store.root, log), _slowly(store.root, log)]
    assert [p.wait() for p in both] == [0, 0]
    assert len(log.read_text().split()) == 40
    assert written(store) == 80
    assert rewards_of(store) == [0.75] * 40


def test_cost_is_of_what_is_missing(store: odograph.Store, tmp_path: Path) -> None:
    """With all but one scored, no other trajectory's lines are read."""
    fill(store, 200)
    assert store.score(mine.steps).scored == 200
    (new,) = fill(store, 1)
    read: list[str] = []
    load = store._reader._load

    def counted(catalog: Any, id: str) -> Any:
        read.append(id)
        return load(catalog, id)

    store._reader._load = counted  # type: ignore[method-assign]
    assert store.score(mine.steps).scored == 1
    assert read == [new]


def test_all_rewards_of_a_trajectory_are_one_write(store: odograph.Store) -> None:
    """Components, or steps, are written at once: no kill leaves a half of them; and what is written is sound."""
    fill(store, 1, steps=3)
    before = store.health()["written"]
    assert store.score(odograph.reward_function("f", lambda t: {"a": 1.0, "b": 2.0})).records == 2
    assert store.health()["written"] == before + 1
    assert store.score(odograph.reward_function("g", lambda s: s.index, per="step")).records == 3
    assert store.health()["written"] == before + 2
    assert store.validate(ignore=["empty"]).errors == []


def test_rewards_move_with_their_trajectories(store: odograph.Store, tmp_path: Path) -> None:
    """Exported and imported elsewhere, what is scored is scored there, too; strange extras of a source change nothing."""
    fill(store, 1)
    both = odograph.reward_function("f", lambda t: {"a": 1.0, "b": 2.0}, version="1")
    store.score(both)
    for extra in ({"components": None}, {"components": "x"}, {"components": -1}, {"components": 2**70}):
        store.add({"task": "t", "steps": [], "rewards": [{"name": "n", "value": 1.0, "author": "n", "extra": extra}]})
    store.export(tmp_path / "out", "jsonl")
    with odograph.open(tmp_path / "other") as other:
        assert other.import_sessions(tmp_path / "out").imported == 5
        assert other.score(both).unchanged == 1
        assert other.score("completion").scored == 5


def test_a_bar_on_a_terminal_alone(store: odograph.Store) -> None:
    """On a terminal the command shows how far it is; into a pipe it writes nothing but the result."""
    fill(store, 3)
    command = [sys.executable, "-m", "odograph", "--store", str(store.root), "score"]
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, 100))
    subprocess.run([*command, f"{FILE}:steps"], stdout=subprocess.PIPE, stderr=follower, check=True)
    os.close(follower)  # so that reading ends where nothing was written
    assert b"scoring" in os.read(leader, 10_000)
    os.close(leader)
    assert subprocess.run([*command, "success"], capture_output=True, check=True).stderr == b""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.none() | st.floats(-5, 5), max_size=3) | st.none() | st.floats(-5, 5),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_versions_there_were_the_last_one_counts(given_by: list[Any]) -> None:
    """Property: after any sequence of versions the rewards are those of the last one, and it writes nothing the second time."""
    with odograph.open("memory:") as store:
        (id,) = fill(store, 1)
        for number, value in enumerate(given_by):
            function = odograph.reward_function("f", lambda t, value=value: value, version=str(number))
            store.score(function)
            assert store.score(function).records == 0
        last = given_by[-1] if isinstance(given_by[-1], dict) else {"f": given_by[-1]}
        t = store.trajectory(id)
        known = {k: v for k, v in last.items() if v is not None}
        assert {r.name: r.value for r in t.rewards if r.value is not None} == known
        whole = bool(known) and len(known) == len(last)
        assert t.reward == (pytest.approx(sum(known.values())) if whole else None)
        assert next(store.summaries()).reward == t.reward


def test_the_command(store: odograph.Store, tmp_path: Path) -> None:
    """`odograph score file.py:fn` scores, prints a table or JSON, and exits 1 where a trajectory failed; a function that is
    not there, or is none, is a sentence."""
    fill(store, 3, group="g")

    def odo(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "odograph", "score", "--store", str(store.root), *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    done = odo(f"{FILE}:steps", "--group", "g", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "function": "steps",
        "version": mine.steps.version,
        "trajectories": 3,
        "scored": 3,
        "unchanged": 0,
        "waiting": 0,
        "running": 0,
        "failed": [],
        "records": 3,
        "superseded": 0,
        "no_group": 0,
    }
    done = odo("length", "--set", "limit=5", "--set", "unit=words", "--name", "brief", "--version", "2")
    assert done.stdout.split("\n")[1].split()[:3] == ["brief", "2", "3"]
    hostile = tmp_path / "hostile.py"
    hostile.write_text("import odograph\n@odograph.reward\ndef f(t): raise ValueError('\\x1b[2J\\n' * 999)\n")
    done = odo(str(hostile), store.trajectories().__next__().id)
    assert (done.returncode, "\x1b" in done.stdout, "ValueError" in done.stdout) == (1, False, True)
    noisy, exits = tmp_path / "noisy.py", tmp_path / "exits.py"
    noisy.write_text("print('loaded')\ndef f(t):\n    print('called')\n    return 1.0\ndef two(t, other): pass\n")
    exits.write_text("import sys\nsys.exit(4)\n")
    done = odo(f"{noisy}:f", "--json")
    assert (json.loads(done.stdout)["scored"], done.stderr.split()) == (3, ["loaded", *["called"] * 3])
    for args, said in (
        ([f"{FILE}:nope"], "has no 'nope'"),
        ([f"{exits}:f"], "can't be loaded: SystemExit: 4"),
        ([".:f"], "no module '.'"),
        (["length", "--version", ""], "argument --version: a value was expected, not an empty text"),
        ([f"{noisy}:two"], "two(t, other) can't be called with a trajectory alone"),
        ([str(tmp_path / "none.py") + ":f"], "no file"),
        (["length", "--set", "limit"], "--set is written NAME=VALUE"),
    ):
        done = odo(*args)
        assert (done.returncode in (1, 2), said in done.stderr) == (True, True), done.stderr


def test_a_function_that_becomes_one_of_steps_leaves_nothing_on_the_whole(store: odograph.Store) -> None:
    """A new version of steps supersedes the old of trajectories: `t.reward` is the sum of the steps, and the other way round."""
    (id,) = fill(store, 1)
    whole = odograph.reward_function("q", lambda t: 1.0, version="1")
    store.score(whole)
    store.score(odograph.reward_function("q", lambda step: 0.25, version="2", per="step"))
    assert (store.trajectory(id).reward, next(store.summaries()).reward) == (0.5, 0.5)
    store.score(whole.using(version="3"))
    t = store.trajectory(id)
    assert (t.reward, [s.reward for s in t.steps], next(store.summaries()).reward) == (1.0, [None, None], 1.0)


def test_what_was_killed_is_scored_by_one_function_after_the_other(tmp_path: Path) -> None:
    """A reward makes a trajectory whose process was killed no running one: its state stays, and the next function scores it."""
    code = """
        import odograph, os, sys
        with odograph.open(sys.argv[1]).record(task="t") as run, run.step() as step:
            step.action("act", {}, {"pnl": 1.0, "stake": 2.0}, ok=True)
            os._exit(9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    with odograph.open(tmp_path) as store:
        for name in ("profit", "success", "multi_factor"):
            assert store.score(name).scored == 1
            (summary,) = store.summaries()
            assert (summary.status, store.trajectory(summary.id).status) == ("unterminated", "unterminated")
        (tmp_path / "catalog.sqlite").unlink()
    with odograph.open(tmp_path) as store:
        store.append(summary.id).note("late")
        assert next(store.summaries()).status == "unterminated"


def test_again_applies_another_weight(store: odograph.Store) -> None:
    """A weight is no part of the version: `again` writes the same value with the new one."""
    (id,) = fill(store, 1)
    function = odograph.reward_function("f", lambda t: 1.0, version="1")
    store.score(function)
    assert store.score(function.using(weight=0.5)).records == 0
    assert store.score(function.using(weight=0.5), again=True).records == 1
    assert store.score(function.using(weight=0.5), again=True).records == 0
    assert store.trajectory(id).reward == 0.5


def test_sets_bytes_and_paths_are_part_of_the_version() -> None:
    """What a function closes over tells its versions apart, in every process alike."""

    def closed_over(value: Any) -> str:
        def fn(t: Any) -> float:
            return float(t.task in value)

        return odograph.reward_function("fn", fn).version

    values: list[Any] = [{"a", "b"}, {"a", "c"}, frozenset({1}), b"x", b"y", Path("x"), Path("y"), Decimal(1), Decimal(2)]
    assert len({closed_over(v) for v in values}) == len(values)
    assert closed_over({"a", "b", "c", "d"}) == closed_over({"d", "c", "b", "a"})


@pytest.mark.parametrize("how", [["--processes", "1"], ["--concurrency", "2", "--processes", "1"], ["--processes", "2"]])
def test_ctrl_c_ends_it_whatever_the_function_is_at(how: list[str], store: odograph.Store, tmp_path: Path) -> None:
    """A function that hangs holds up nobody: alone, in threads and in processes."""
    fill(store, 40)
    file, log = tmp_path / "hangs.py", tmp_path / "log"
    # made by one call of the system: Python drops an interrupt that arrives while it closes a file that nothing refers to
    file.write_text(f"import os, time\ndef f(t):\n    os.makedirs({str(log)!r}, exist_ok=True)\n    time.sleep(600)\n")
    command = [sys.executable, "-m", "odograph", "score", f"{file}:f", "--store", str(store.root), *how]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    ) as child:
        assert child.stderr is not None
        try:
            until(log.exists, child)
            os.killpg(child.pid, signal.SIGINT)
            assert child.wait() == 130
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
        assert "Error" not in child.stderr.read()


def test_seq_increases_however_often_a_writer_comes_back(store: odograph.Store) -> None:
    """Records of one process have increasing numbers in each trajectory: recorded, scored, appended, added, two at once."""
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.action("act", {}, {"k": 1}, ok=True)
    store.score("completion")
    with store.append(run.id) as one, store.append(run.id) as other:
        one.reward(1.0, "x")
        other.reward(2.0, "y")
        one.note("z")
    store.score("success")
    changed = store.trajectory(run.id).to_dict()
    changed["labels"] = [{"technique": "q", "value": "good"}]
    store.add(changed)
    records = store.trajectory(run.id).records
    assert len({r.writer for r in records}) == 1
    assert [r.seq for r in records] == sorted({r.seq for r in records})
    assert len(records) == 10
