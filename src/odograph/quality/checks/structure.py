"""Checks of structure and time: what every trajectory must satisfy, whatever it is used for."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from ...calls import Call
from ...clock import iso_time
from ...types import TAG, Action, Context, Edit, Label, LLMCall, Reward, Start, StepStart
from ..define import Found, check
from ..look import Look


@check("schema", "error", "a field of the wrong type, a required field missing")
def schema(look: Look) -> Found:
    if look.t.start is None:
        yield "start", "no start record; every trajectory begins with one"
    for path, record in look.placed:
        invalid = (record.extra or {}).get("invalid")
        for name, value in invalid.items() if isinstance(invalid, dict) else ():
            yield f"{path}.{name}", f"a value of type {type(value).__name__} where the schema has another: {_short(value)}"
        if isinstance(record, Action) and not record.name:
            yield f"{path}.name", "an action without a name"
        if isinstance(record, Context) and not record.provider:
            yield f"{path}.provider", "a context without a provider"


@check("duplicate_id", "error", "one id used by two records")
def duplicate_id(look: Look) -> Found:
    counts = Counter(r.id for r in look.t.records if r.id)
    for id, count in counts.items():
        if count > 1:
            kind = next(str(r.__struct_config__.tag) for r in look.t.records if r.id == id)
            yield look.path_of.get(id, ""), f"the id {id} of a {kind} record is used by {count} records"


@check("empty", "error", "no steps or calls where there should be some")
def empty(look: Look) -> Found:
    t = look.t
    if t.steps or t.llm_calls or t.actions:
        return
    source = t.metadata.get("source")
    totals = source.get("totals") if isinstance(source, dict) else None
    stated = {**(totals if isinstance(totals, dict) else {}), **(t.end.metrics if t.end else {})}
    claimed = {k: v for k in ("steps", "llm_calls", "actions") if (v := stated.get(k))}
    if look.imported and not claimed:
        return
    yield (
        "steps",
        f"no step and no call of a model, where the source states {claimed}" if claimed else "no step and no call of a model",
    )


@check("unterminated", "warning", "no end record, or a step without outcome")
def unterminated(look: Look) -> Found:
    t = look.t
    source = t.metadata.get("source")
    interactive = isinstance(source, dict) and source.get("interactive") is True  # a person may just have stopped
    if t.status == "unterminated" and t.records and not interactive:
        last = t.records[-1]
        when = last.source_time if last.source_time is not None else last.time
        age = f" of {iso_time(when)}, {(time.time_ns() - when) / 1e9:.0f} s ago" if when else ""
        yield "end", f"no end record; the last is a {last.__struct_config__.tag}{age}"
    if look.imported or t.status == "running":
        return
    for index, step in enumerate(t.steps):
        if not (step.llm_calls or step.actions or step.rewards):
            yield f"steps[{index}]", f"step {step.index} has no call, action or reward"


@check("step_order", "error", "step indexes that skip or repeat")
def step_order(look: Look) -> Found:
    fork = look.t.start.fork if look.t.start else None
    seen: set[str | None] = set()
    expected: dict[str | None, int] = {look.t.agent: fork.step or 0} if fork else {}  # a fork's steps go on from its parent's
    begun = [(p, r, r.step, r.agent or look.t.agent) for p, r in look.placed if isinstance(r, StepStart) and r.step is not None]
    writers: dict[str | None, set[str]] = {}
    for _, record, _, agent in begun:
        writers.setdefault(agent, set()).add(record.writer)
    # processes that share a trajectory take their indexes at one place and write their steps at another: each has its own clock,
    # and what took an index may be killed before it wrote
    shared = {agent for agent, found in writers.items() if len(found) > 1}
    begun.sort(key=lambda one: one[2] if one[3] in shared else 0)
    for path, _, step, agent in begun:
        wanted = expected.get(agent, 0)
        if fork is not None and agent not in seen and step == 0:  # or count anew, where they were not
            wanted = 0
        seen.add(agent)
        if step < wanted if agent in shared else step != wanted:
            yield path, f"step {step} of {agent or 'the agent'}, where {wanted} was expected"
        expected[agent] = step + 1


#: 2000-01-01 in nanoseconds: what is before was meant in another unit.
_EARLIEST = 946_684_800 * 10**9
_DAY = 86_400 * 10**9
_UNITS = ((10**14, 10**17, "microseconds"), (10**11, 10**14, "milliseconds"), (10**8, 10**11, "seconds"))


def _no_time(value: Any, now: int) -> str | None:
    """Why a number of nanoseconds since 1970 is no time at which something happened."""
    if type(value) is not int or value == 0:  # not known
        return None
    if value > now + _DAY:
        return f"{iso_time(value) or value} is in the future"
    if value >= _EARLIEST or 0 < value < _UNITS[-1][0]:  # a small number is of a clock of its own
        return None
    unit = next((f", which looks like {unit}" for low, high, unit in _UNITS if low < value < high), "")
    return f"{value}{unit}; nanoseconds since 1970 were expected"


@check(
    "time_order",
    "error",
    "a time in another unit or in the future, or a record earlier than its parent or than its predecessor by seq or by step",
)
def time_order(look: Look) -> Found:
    now = time.time_ns()
    for path, record in look.placed:
        for field in ("time", "source_time", "started"):
            why = _no_time(getattr(record, field, None), now)
            if why is not None:
                yield f"{path}.{field}", why
    ordered = sorted(enumerate(look.t.steps), key=lambda s: s[1].index)
    for told in (True,) if look.imported else (False, True):  # what the source says of times, and when they were recorded
        begun: dict[tuple[str | None, ...], tuple[int, int]] = {}  # one agent may work for two others at once, in two processes
        for number, step in ordered:
            happened: list[Context | Call | Action] = [*step.contexts, *step.llm_calls, *step.actions]
            whens = [r.source_time if told else r.time for r in happened]
            begin = step.record
            if begin is not None and begin.time and not told:  # steps may be under way beside each other
                whens = [begin.time]
            first = min((w for w in whens if w), default=None)
            if first is not None:
                who = (step.agent, begin.parent, begin.writer) if begin is not None else (step.agent, None, "")
                before = begun.get(who)
                if before is not None and first < before[1]:
                    yield f"steps[{number}]", f"{iso_time(first)} is before {iso_time(before[1])} of step {before[0]}"
                begun[who] = (step.index, first)
    by_id = {r.id: r for _, r in look.placed}
    last: dict[str, tuple[int, int]] = {}
    steps: dict[str | None, int] = {}
    for path, record in look.placed:
        if not record.time:  # not known: a part that was put into a dict by hand
            continue
        before = last.get(record.writer)
        if before is not None and record.seq > before[0] and record.time < before[1]:
            yield path, f"{iso_time(record.time)} is before {iso_time(before[1])} of the record before it"
        last[record.writer] = (record.seq, record.time)
        parent = by_id.get(record.parent or "")
        if parent is not None:
            begins = getattr(parent, "started", None)
            if begins is None and not isinstance(parent, (Action, LLMCall, Context)):  # those are written when they end
                begins = parent.time
            if begins is not None and not look.imported and record.time < begins:
                yield path, f"{iso_time(record.time)} is before its parent's {iso_time(begins)}"
        if isinstance(record, StepStart) and record.source_time is not None:
            if record.source_time < steps.get(record.agent, 0):
                yield path, f"{iso_time(record.source_time)} is before {iso_time(steps[record.agent])} of the step before it"
            steps[record.agent] = record.source_time


@check("duration", "error", "a duration that is negative, or not end minus start")
def duration(look: Look) -> Found:
    for path, record in look.placed:
        took = getattr(record, "duration", None)
        if took is not None and took < 0:
            yield f"{path}.duration", f"{took} ns; a duration is 0 or more"
    t = look.t
    if t.duration is not None and t.duration < 0:
        yield "end", f"it ended {-t.duration:.3f} s before it started"
    stated = t.end.metrics.get("duration") if t.end else None
    if isinstance(stated, (int, float)) and t.duration is not None and not isinstance(stated, bool):
        if abs(stated - t.duration) > max(1.0, 0.05 * abs(t.duration)):
            yield "end.metrics.duration", f"{stated} s is stated; end minus start is {t.duration:.3f} s"


@check("dangling_reference", "error", "a parent, target or call that does not exist")
def dangling_reference(look: Look) -> Found:
    known = {r.id for r in look.t.records}
    ended = look.t.end is not None
    for path, record in look.placed:
        references: list[tuple[str, str | None]] = []
        if ended:  # a killed process never wrote the action that its records are inside of
            references.append(("parent", record.parent))
        if isinstance(record, Action):
            references.append(("llm_call", record.llm_call))
        if isinstance(record, Reward):
            references.append(("target", record.target))
        references.append(("supersedes", record.supersedes))
        for field, id in references:
            if id is not None and id not in known:
                yield f"{path}.{field}", f"no record {id} in this trajectory"
        if record.parent is None and not isinstance(record, Start) and look.t.start is not None and ended:
            yield f"{path}.parent", "no parent; only the start has none"


@check("orphan_edit", "error", "an edit or label whose target or base does not exist or match")
def orphan_edit(look: Look) -> Found:
    records = {r.id: r for r in look.t.records}
    for path, record in look.placed:
        if isinstance(record, Edit):
            if not isinstance(records.get(record.base), LLMCall):
                yield f"{path}.base", f"no call {record.base or '(none given)'} in this trajectory"
            elif record.rejected:
                yield path, f"not accepted: {record.rejected}"
        elif isinstance(record, Label) and record.target is not None and record.target not in records:
            yield f"{path}.target", f"no record {record.target} in this trajectory"


@check(
    "lossy_value",
    "warning",
    "an object kept as its repr, a value left out, a message that damage took away, or NaN or infinity, which JSON can't hold",
)
def lossy_value(look: Look) -> Found:
    scores = {f"{path}.value" for path, record in look.placed if isinstance(record, (Reward, Label))}  # checked by themselves
    for where, content in look.walk():
        stack: list[tuple[str, Any]] = [(where, content)]
        while stack:
            path, value = stack.pop()
            if isinstance(value, dict):
                kind = value.get(TAG)
                if kind == "repr":
                    yield path, f"an object of type {value.get('type')} was kept as its repr"
                elif kind == "omitted":
                    yield path, f"a value of type {value.get('type')} was left out: {value.get('value')}"
                elif kind == "missing":
                    yield path, f"{value.get('value')} is missing"
                elif kind == "float" and path not in scores:
                    yield path, f"{value.get('value')} is no number that JSON can hold"
                else:
                    stack += [(f"{path}.{k}", v) for k, v in value.items() if isinstance(v, (dict, list, float))]
            elif isinstance(value, float):
                if not math.isfinite(value) and path not in scores:
                    yield path, f"{value} is no number that JSON can hold"
            elif not _NUMBERS.issuperset(map(type, value)):  # token ids, logprobs
                stack += [(f"{path}[{i}]", v) for i, v in enumerate(value) if isinstance(v, (dict, list, float))]
            elif not all(math.isfinite(v) for v in value if type(v) is float):
                yield path, "a list with a number that JSON can't hold (NaN or infinity)"


_NUMBERS = frozenset((int, float, bool, str, type(None)))


@check("context_purpose", "warning", "a context that does not say why it was read")
def context_purpose(look: Look) -> Found:
    for path, record in look.placed:
        if isinstance(record, Context) and not record.purpose:
            yield f"{path}.purpose", f"no purpose for what was read from {record.provider or 'it'}"


def _short(value: Any) -> str:
    from ...redact import Redactor

    text = Redactor(True).text(repr(value), Counter())  # before it is cut: a piece of a secret would not be known as one
    return text if len(text) <= 60 else text[:57] + "..."
