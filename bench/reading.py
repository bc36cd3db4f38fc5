"""Reading at scale, as ratios of processor time: many journal files, interleaved runs, a run under way, adding again what is there."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import chain
from typing import Any

from .workload import steps


def _least(rounds: int, *what: Callable[[], object]) -> list[float]:
    """The least processor seconds of each, in turn."""
    found = [float("inf")] * len(what)
    for _ in range(rounds):
        for number, do in enumerate(what):
            gc.collect()
            start = time.process_time()
            do()
            found[number] = min(found[number], time.process_time() - start)
    return found


def _step(run: Any, step: Any) -> None:
    with run.step() as s:
        s.context("kb", step.context)
        call = s.llm_call(model="m", messages=step.messages, response=step.answer, usage=step.usage)
        s.action("search", step.arguments, step.result, ok=step.ok, llm_call=call)
        s.reward(step.reward)


def files(bench: Any) -> None:
    """One trajectory out of 300 journal files against one out of a single file."""
    import odograph

    stores, ids = [], []
    for count in (1, 300):
        store = odograph.open(bench.folder())
        for number in range(300):
            with store.record(task=number) as run:
                _step(run, next(steps(number)))
            if count > 1:
                store.close()  # what is recorded next goes into a file of its own
        assert len(list((store.root / "journal").glob("*.jsonl"))) == count
        stores.append(store)
        ids.append(run.id)
    reads = [lambda s=s, id=id: [s.trajectory(id) for _ in range(100)] for s, id in zip(stores, ids, strict=True)]
    one, many = (seconds * 10 for seconds in _least(10 if bench.quick else 40, *reads))
    more = many - one
    bench.add("a trajectory out of 300 files, above one file", more, "ms", "one file", many / one, "<= 0.05 ms", more <= 0.05)
    for store in stores:
        store.close()


def interleaved(bench: Any) -> None:
    """64 runs that were recorded in turn, all read, against 64 in a row; and one run under way against the same ended."""
    import odograph

    data = [list(steps(number)) for number in range(64)]
    in_turn, in_a_row = odograph.open(bench.folder()), odograph.open(bench.folder())
    runs = [in_turn.record(task=n) for n in range(64)]
    for number, step in chain.from_iterable(enumerate(line) for line in zip(*data, strict=True)):
        _step(runs[number], step)
    for run in runs[1:]:
        run.finish()
    rest = [in_a_row.record(task=n) for n in range(64)]
    for run, line in zip(rest, data, strict=True):
        for step in line:
            _step(run, step)
        run.finish()
    reads = [lambda s=s: list(s.trajectories()) for s in (in_turn, in_a_row)]
    shuffled, sorted_ = _least(3 if bench.quick else 9, *reads)
    ratio = shuffled / sorted_
    bench.add("64 interleaved runs, read", shuffled * 1000, "ms", "64 runs in a row", ratio, "<= 1.2", ratio <= 1.2)
    both = [lambda id=id: [in_turn.trajectory(id) for _ in range(10)] for id in (runs[0].id, runs[1].id)]
    under_way, ended = _least(10 if bench.quick else 40, *both)
    ratio = under_way / ended
    bench.add("a run under way, read", under_way * 100, "ms", "a run that ended", ratio, "<= 1.2", ratio <= 1.2)
    in_turn.close()
    in_a_row.close()


def again(bench: Any) -> None:
    """A trajectory is added that is there already, against reading it; and a longer one against a shorter one."""
    import odograph

    few, many = (250, 1000) if bench.quick else (1000, 4000)
    took = {}
    for count in (few, many):
        with odograph.open(bench.folder()) as store:
            with store.record(task="long") as run:
                history: list[Any] = []
                for n in range(count):
                    history.append({"role": "user", "content": f"question {n}"})
                    run.step().llm_call(request={"model": "m", "messages": history}, response=f"answer {n}")
                    history.append({"role": "assistant", "content": f"answer {n}"})
            records = list(store.trajectory(run.id).complete_records(growing=True))
            before = store.health()["written"]
            work = (lambda s=store, r=run: s.trajectory(r.id), lambda s=store, r=records: s.add(r))
            took[count] = _least(3 if bench.quick else 9, *work)
            assert store.health()["written"] == before
    read, added = took[many]
    per_call = (added / many) / (took[few][1] / few)
    bench.add(f"{many:,} calls added again", added * 1000, "ms", "to read them", added / read, "<= 3", added <= 3 * read)
    bench.add(f"{many:,} calls added again, per call", per_call, "ratio", f"of {few:,}", per_call, "linear (< 2)", per_call < 2)
