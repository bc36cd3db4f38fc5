"""Rewards of the trajectories of a store, by a function: what is missing is computed and appended, and nothing else is read.

What is there already is asked of the catalog, so that a run costs what there is to score. A function that fails, fails its
trajectory alone. All records of one trajectory are one write: a process killed in between leaves it scored or not scored.
Processes that score by the same function take turns, and each finds what the one before left.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, cast

import msgspec

from .. import clusters
from ..bulk import Progress, complete, ticker
from ..clusters import Runner, check_runner
from ..codec import content_hash
from ..errors import InvalidInput
from ..groups import Groups, wants_running
from ..log import logger
from ..processes import NotSendable, may_start, over
from ..store.backend import Backend
from ..store.filters import Filters
from ..store.reader import Reader
from ..store.writing import Writer
from ..trajectory import Trajectory
from .evaluating import Outcome, evaluate, evaluate_async, evaluate_group, in_group
from .functions import Plain, RewardFunction, as_reward_function

#: What scores: a reward function, a plain function of a trajectory, or where one is.
Scorer = RewardFunction | Plain | str

_CHUNK = 32  # trajectories that a process is given at once
_AT_ONCE = 16  # async calls at once


class ScoreReport(msgspec.Struct, kw_only=True):
    """What `store.score` did. Counts are of trajectories, but `records` and `superseded`, which are of rewards."""

    function: str
    version: str
    #: That the filters chose.
    trajectories: int = 0
    #: That got rewards now.
    scored: int = 0
    #: That had them by this version: they were not read (with `again`: that got the same again).
    unchanged: int = 0
    #: Of which the function does not know all yet.
    waiting: int = 0
    #: That are still being recorded: they are scored when they have ended, and the group of each is then compared anew.
    running: int = 0
    #: That are in no group, for a function of groups; replays are in none.
    no_group: int = 0
    #: `{"trajectory", "error"}` of each that the function failed on.
    failed: list[dict[str, str]] = []
    #: Rewards that were written.
    records: int = 0
    #: Rewards of other versions that these stand in for.
    superseded: int = 0

    @property
    def ok(self) -> bool:
        """Whether no trajectory failed."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return cast(dict[str, Any], msgspec.to_builtins(self))


def score(
    store: Backend,
    fn: Scorer,
    filters: Filters,
    *,
    version: str | None = None,
    again: bool = False,
    concurrency: int | None = None,
    processes: int = 1,
    runner: Runner | None = None,
    progress: Progress = None,
) -> ScoreReport:
    """Scores what is missing: see `Store.score`."""
    function = as_reward_function(fn).ready()
    if version is not None:
        function = function.using(version=version)
    if concurrency is None:
        concurrency = _AT_ONCE if function.is_async else 1
    for what, count in (("concurrency", concurrency), ("processes", processes)):
        if type(count) is not int or count < 1:
            raise InvalidInput(f"{what} is 1 or more, not {count!r}")
    check_runner(runner)
    if processes > 1:
        may_start()  # before the lock, which the process that started this one holds
    report = ScoreReport(function=function.name, version=function.version)
    if not store.exists:  # nothing was ever recorded
        return report
    reader, sink = store.reader, store.sink
    with _alone(store, function):
        groups = _missing(reader, function, filters, again, report)
        todo = [id for ids in groups for id in ids]
        tell, close = ticker(progress, len(todo), "scoring")

        def take(outcome: Outcome) -> None:
            if outcome.error is not None:
                said = outcome.error if sink.redactor is None else sink.redactor.text(outcome.error, Counter())
                report.failed.append({"trajectory": outcome.trajectory, "error": said})
            else:
                if outcome.records:
                    Writer(sink, outcome.trajectory).add(list(outcome.records))
                    report.records += len(outcome.records)
                    report.superseded += sum(1 for r in outcome.records if r.supersedes is not None)
                new = any(r.value is not None for r in outcome.records)
                report.scored += new
                report.waiting += not outcome.known
                report.unchanged += outcome.known and not new
            tell()

        try:
            if function.per == "group":
                for ids in groups:
                    for outcome in evaluate_group(function, list(reader.read(ids))):
                        take(outcome)
            elif runner == "ray":
                work = partial(clusters.over, store.place, reader)
                _in_parts(work, function, todo, again, concurrency, _CHUNK, take)
            elif processes > 1 and len(todo) > _CHUNK:
                count = min(processes, -(-len(todo) // _CHUNK))
                work = partial(over, store.place, count=count)
                _in_parts(work, function, todo, again, concurrency, min(_CHUNK, len(todo) // count + 1), take)
            else:
                run(function, reader.read(todo), again, concurrency, take)
        finally:
            close()
    return report


def _missing(reader: Reader, function: RewardFunction, filters: Filters, again: bool, report: ScoreReport) -> list[list[str]]:
    """The trajectories that have no reward by this version of the function, or not one for each step. Those of a group together,
    where it is a function of groups: all of them, if one has none."""
    if function.per == "group":
        return _missing_groups(reader, function, filters, again, report)
    there = {} if again else reader.scored(function.source, function.name, function.version)
    running = wants_running(filters)
    todo: list[list[str]] = []
    for summary in reader.summaries(filters):
        report.trajectories += 1
        if summary.status == "running" and not running:
            report.running += 1
        elif there.get(summary.id, 0) >= (max(1, summary.steps) if function.per == "step" else 1):
            report.unchanged += 1
        else:
            todo.append([summary.id])
    return todo


def _missing_groups(
    reader: Reader, function: RewardFunction, filters: Filters, again: bool, report: ScoreReport
) -> list[list[str]]:
    groups = Groups(reader.summaries(filters), reader.read, min_size=1, running=wants_running(filters))
    report.trajectories = sum(map(len, (*groups, groups.ungrouped, groups.running, groups.replays)))
    report.no_group, report.running = len(groups.ungrouped) + len(groups.replays), len(groups.running)
    todo: list[list[str]] = []
    for ids in (group.ids for group in groups):
        version = in_group(function, ids).version
        if not again and len(reader.scored(function.source, function.name, version).keys() & set(ids)) == len(ids):
            report.unchanged += len(ids)
        else:
            todo.append(ids)
    return todo


# --- many -----------------------------------------------------------------------------------------------------------


def run(
    function: RewardFunction, trajectories: Iterable[Trajectory], again: bool, concurrency: int, take: Callable[[Outcome], None]
) -> None:
    """Evaluates in this process: an async function as tasks, another in threads where more than one is to run at once. Reading,
    and `take`, happen one at a time."""
    if not function.is_async:
        if concurrency == 1:
            for t in trajectories:
                take(evaluate(function, t, again))
        else:
            _in_threads(function, iter(trajectories), again, concurrency, take)
        return
    complete(_as_tasks(function, iter(trajectories), again, concurrency, take))


def _in_threads(
    function: RewardFunction, trajectories: Iterator[Trajectory], again: bool, concurrency: int, take: Callable[[Outcome], None]
) -> None:
    """Daemons, which an executor's threads are not: a function that hangs must not hold up Ctrl-C."""
    asked: SimpleQueue[Trajectory | None] = SimpleQueue()
    done: SimpleQueue[Outcome | BaseException] = SimpleQueue()

    def work() -> None:
        while (t := asked.get()) is not None:
            try:
                done.put(evaluate(function, t, again))
            except BaseException as error:
                done.put(error)

    for _ in range(concurrency):
        threading.Thread(target=work, name="odograph-score", daemon=True).start()
    under_way = 0
    try:
        while True:
            for t in islice(trajectories, concurrency - under_way):
                asked.put(t)
                under_way += 1
            if not under_way:
                return
            outcome = done.get()
            under_way -= 1
            if isinstance(outcome, BaseException):
                raise outcome
            take(outcome)
    finally:
        for _ in range(concurrency):
            asked.put(None)


async def _as_tasks(
    function: RewardFunction, trajectories: Iterator[Trajectory], again: bool, concurrency: int, take: Callable[[Outcome], None]
) -> None:
    waiting: set[asyncio.Task[Outcome]] = set()
    try:
        while True:
            waiting |= {
                asyncio.ensure_future(evaluate_async(function, t, again))
                for t in islice(trajectories, concurrency - len(waiting))
            }
            if not waiting:
                return
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                take(task.result())
    finally:
        for task in waiting:
            task.cancel()


def _in_parts(
    work: Callable[..., Generator[Any, None, None]],
    function: RewardFunction,
    todo: list[str],
    again: bool,
    concurrency: int,
    size: int,
    take: Callable[[Outcome], None],
) -> None:
    """Each process reads its share itself; what comes back is the records, which this one writes."""
    about, doing = (function, again, concurrency), f"scored by {function.name}"
    try:
        with closing(work(begin=_begin, about=about, ids=todo, batch=size, doing=doing)) as shares:
            for share in shares:
                for outcome in share:
                    take(outcome)
    except NotSendable as error:
        raise InvalidInput(
            f"{function.name} can't be sent to other processes ({error}): define it at the top of a module, name it as"
            f" file.py:function, or leave processes out, and runner"
        ) from None


def _begin(function: RewardFunction, again: bool, concurrency: int) -> Callable[[Reader, list[str]], list[Outcome]]:
    def work(reader: Reader, ids: list[str]) -> list[Outcome]:
        out: list[Outcome] = []
        run(function, reader.read(ids), again, concurrency, out.append)
        return out

    return work


def _alone(store: Backend, function: RewardFunction) -> contextlib.AbstractContextManager[object]:
    """Holds the function's lock: two processes that score by it would both compute, and both write."""
    return store.lock(
        f"score-{content_hash([function.source, function.name])[:16]}",
        lambda: logger.info("another process scores by %s: waiting until it is done", function.name),
    )
