"""What people are shown of trajectories, as values: what a terminal prints, a viewer draws and a server sends as JSON.

Knows what is said and in which order, not how it looks. Figures of a store have a JSON of their own: `Stats.to_dict`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .calls import Call
from .clock import iso_time
from .dialects import Choice
from .dialects.content import as_text, is_media, is_part, media
from .errors import InvalidInput
from .lineage.bodies import pieces_of
from .prefix import shared_prefix
from .shape import added, obj, text
from .streams import Seen
from .trajectory import Step, Trajectory, own_steps
from .types import Action, AnyRecord, Context, Edit, Kept, Label, LLMCall, Note, Reward, StepStart


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing of a session, in the order in which it happened; `about` has the fields of its kind.

    Kinds: step, observation, context, tools (schemas that differ from those of the call before), message (a message that no
    call before it was sent), history (how many messages of the prompt before are gone from this one), call, thinking, answer,
    action, result (of an action that other records happened inside; else the result is in the action), compaction, reward,
    edit, label, note and, last, outcome.
    """

    kind: str
    about: dict[str, Any]
    #: The id of the record that it is of.
    record: str | None = None
    step: int | None = None
    agent: str | None = None
    #: When it happened, nanoseconds: by the source's own clock for an import; None where the source does not say.
    time: int | None = None
    #: How many actions it happened inside: a sub-agent's work is one deeper than the action that started the sub-agent.
    depth: int = 0


class Folded(msgspec.Struct, frozen=True):
    """The beginning of a text, and how much of the text it leaves out: both counts are 0 where that is nothing."""

    text: str
    lines: int = 0
    characters: int = 0


def fold(text: str, *, lines: int = 12, characters: int = 700) -> Folded:
    """The first lines of a text, within both bounds."""
    kept = "\n".join(text.split("\n", lines)[:lines])[:characters]
    if len(text) - len(kept) <= characters // 10 and text.count("\n", len(kept)) <= 1:  # a fold that hides next to nothing
        return Folded(text)
    return Folded(kept, text.count("\n", len(kept)), len(text) - len(kept))


def facts(t: Trajectory) -> dict[str, Any]:
    """The head of a session: what is known of a trajectory as a whole; None where it is not."""
    fork = t.start.fork if t.start else None
    by = text(obj(obj(obj(t.metadata).get("source")).get("parent")).get("trajectory"))
    return {
        "id": t.id,
        "task": t.task,
        "agent": t.agent,
        "model": t.model,
        "status": t.status,
        "reward": t.reward,
        "steps": len(t.steps),
        "llm_calls": len(t.llm_calls),
        "actions": len(t.actions),
        "prompt_tokens": added(*(c.prompt_tokens for c in t.llm_calls)),
        "completion_tokens": added(*(c.completion_tokens for c in t.llm_calls)),
        "started": iso_time(t.started),
        "duration": t.duration,
        "group": t.group,
        "tags": list(t.tags),
        "fork_of": fork.trajectory if fork else None,
        "sub_agent_of": fork.trajectory if fork and fork.reason == "sub-agent" else by,
        "rewards": {name: t.rewards[name] for name in t.rewards.names},
        "cost": _cost(t.llm_calls),
    }


#: Actions inside of actions; what lies deeper is shown at this depth.
_DEEPEST = 40
_COMPACTED = re.compile(r"compact|condens|compress", re.IGNORECASE)

_About = dict[str, Any]
_CONTEXT = ("provider", "query", "purpose", "data", "error")
_REWARD = ("name", "source", "target", "rationale", "weight", "author", "version")
_EDIT = ("reason", "rejected", "author", "base", "choice", "channel", "unit", "preferred")
_LABEL = ("technique", "description", "value", "score", "rationale", "author", "target")
_CALL = ("model", "purpose", "prompt_tokens", "completion_tokens", "error", "cost", "finish_reason", "policy_version", "origin")
_PLACE = ("kind", "step", "agent", "depth", "record")


def session(t: Trajectory, *, step: int | None = None, agent: str | None = None) -> Iterator[Entry]:
    """A trajectory as a session, each thing once: costs what was said, however often an agent sent its history.

    What a sub-agent did stands inside the action that started it. `step` and `agent` choose the entries of a step (with all
    that happened inside its actions) and of an agent. Raises InvalidInput where there is no such step or agent.
    """
    names = list(dict.fromkeys(name for r in t.records if (name := r.agent or t.agent) is not None))
    if agent is not None and agent not in names:
        raise InvalidInput(f"no agent {agent!r} in this trajectory; there are: {', '.join(names) or 'none with a name'}")
    indexes = [s.index for s in t.steps if agent in (None, s.agent)]
    if step is not None and step not in indexes:
        there = f"there are {min(indexes)} to {max(indexes)}" if indexes else "there are none"
        raise InvalidInput(f"no step {step} in this trajectory; {there}")
    around: list[bool] = []  # whether the last entry of each depth was chosen
    for entry in _Walk(t).entries():
        del around[entry.depth :]
        chosen = step in (None, entry.step) and agent in (None, entry.agent)
        around.append(chosen or (step is not None and any(around)))
        if (step is None and agent is None) or (around[-1] and entry.kind != "outcome"):
            yield entry


class _News(msgspec.Struct, frozen=True):
    """What is new in a call: messages, tool schemas where they changed, all parameters; how many messages of before are gone."""

    messages: list[_About]
    tools: list[Any]
    params: _About
    gone: int


class _Walk:
    """A walk through a trajectory's records as a tree, which knows what was shown before."""

    def __init__(self, t: Trajectory) -> None:
        self.t = t
        self.steps = {(s.agent, s.index): s for s in t.steps}
        self.calls = {c.id: c for c in t.llm_calls}
        #: What `fork(at_step=)` calls a step, where that is not the step's number: a fork's own count goes on from its parent's.
        self.at_step = {s.id: n for n, s in enumerate(own_steps(t)) if n != s.index}
        self.outside, self.inside = _tree(t)
        #: Tool calls that have an action: they are shown there, with their result.
        self.done = {r.tool_call_id for r in t.standing if isinstance(r, Action) and r.tool_call_id}
        #: What answers and results said: a prompt that sends them again says nothing new.
        self.said: set[int] = set()
        #: What a step without a call observed and was shown there: the prompt that sends this says nothing new.
        self.observed: dict[int, int] = {}
        self.seen = Seen()
        #: Of requests that are not packed: the messages and the tools of the last one, by (agent, purpose).
        self.last: dict[tuple[str | None, str], tuple[list[Any], list[Any]]] = {}
        #: What is new in calls that were looked at before their turn.
        self.ahead: dict[str, _News] = {}
        self.imported = t.start is not None and "source" in t.metadata
        #: Of each technique the version of the rubric that was used last.
        self.rubrics = {r.technique: r.rubric_hash for r in t.labels}

    def entries(self) -> Iterator[Entry]:
        yield from self._entries(self.outside, 0)
        if (end := self.t.end) is not None:
            about = {"status": self.t.status, "answer": self.t.answer, "error": end.error, "metrics": end.metrics}
            yield Entry("outcome", about, end.id, time=happened(end, self.imported))

    def _entries(self, records: list[AnyRecord], depth: int) -> Iterator[Entry]:
        within: Step | None = None
        met: set[int] = set()
        for record in records:
            agent, time = record.agent or self.t.agent, happened(record, self.imported)
            step = self.steps.get((agent, record.step)) if record.step is not None else None
            if step is not None and step is not within:
                again = id(step) in met  # steps of agents that work side by side take turns
                met.add(id(step))
                about: _About = {"again": True} if again else _figures(self.t, step)
                if not again and step.id in self.at_step:
                    about["at_step"] = self.at_step[step.id]
                yield Entry("step", about, step.id, step.index, agent, time, depth)
            within = step
            for kind, about in self._of(record, step):
                yield Entry(kind, about, record.id, record.step, agent, time, depth)
            if isinstance(record, Action) and (inner := self.inside.get(record.id)):
                yield from self._entries(inner, min(depth + 1, _DEEPEST))
                yield Entry("result", _outcome(record), record.id, record.step, agent, time, depth)

    def _of(self, record: AnyRecord, step: Step | None) -> Iterator[tuple[str, _About]]:
        match record:
            case StepStart() if record.observation is not None and not self._is_in_prompt(record.observation, step):
                mark = _mark("user", record.observation)
                self.observed[mark] = self.observed.get(mark, 0) + 1
                yield "observation", {"value": record.observation}
            case Context():
                yield "context", {f: getattr(record, f) for f in _CONTEXT} | {"duration": _seconds(record.duration)}
            case LLMCall() if record.id in self.calls:
                yield from self._call(self.calls[record.id])
            case Action():
                self.said |= {_mark("tool", told) for told in (record.result, _told(record.result), record.error)}
                about = {f: getattr(record, f) for f in ("name", "arguments", "tool_call_id", "llm_call")}
                if started := text(obj(record.extra).get("trajectory")):
                    about["sub_agent"] = started  # has a trajectory of its own
                yield "action", about | ({} if record.id in self.inside else _outcome(record))
            case Reward():
                value = record.value.get("value") if isinstance(record.value, dict) else record.value
                span = [record.span.start, record.span.stop] if record.span else None
                yield "reward", {"value": value, "span": span} | {f: getattr(record, f) for f in _REWARD}
            case Edit():
                runs: list[Any] = [
                    {"kept": [r.start, r.stop]} if isinstance(r, Kept) else {"text": r.text, "ids": r.ids} for r in record.result
                ]
                about = {"runs": runs, "changes": changes(record, self.calls.get(record.base))}
                yield "edit", about | {f: getattr(record, f) for f in _EDIT}
            case Label() if not (record.supersedes and record.value is record.score is None):
                stale = record.rubric_hash != self.rubrics.get(record.technique)
                yield "label", {f: getattr(record, f) for f in _LABEL} | {"stale": stale}
            case Note():
                yield from self._note(record)

    def _is_in_prompt(self, observation: Any, step: Step | None) -> bool:
        """Whether the messages of the step's first call say what was observed, or actions have it as their results."""
        listed = isinstance(observation, list) and not any(isinstance(o, dict) and is_part(o) for o in observation)
        many = observation if listed else [observation]
        if many and all(isinstance(one, dict) and one.get("tool_call_id") in self.done for one in many):
            return True
        call = next((c for c in step.llm_calls if c.purpose == "act"), None) if step is not None else None
        if call is None:
            return False
        if call.id not in self.ahead:
            self.ahead[call.id] = self._new(call)
        texts = [as_text(m.get("content")).strip() for m in self.ahead[call.id].messages]
        return all(any(as_text(one).strip() == text for text in texts) for one in many)

    def _new(self, call: Call) -> _News:
        messages, tools, params = call.news(self.seen)
        gone = self.seen.gone
        if not any(part.of == "list" for part in call.packed):  # the request is whole
            who = (call.agent, call.purpose)
            before, self.last[who] = self.last.get(who, ([], [])), (messages, tools)
            same = shared_prefix(before[0], messages)
            messages, gone = messages[same:], len(before[0]) - same
            tools = [] if tools == before[1] else tools
        return _News(messages, tools, params, gone)

    def _call(self, call: Call) -> Iterator[tuple[str, _About]]:
        new = self.ahead.pop(call.id) if call.id in self.ahead else self._new(call)
        if new.gone:
            yield "history", {"gone": new.gone, "new": len(new.messages)}
        if new.tools:
            yield "tools", {"tools": new.tools}
        yield from self._messages(new.messages)
        about = {f: getattr(call, f) for f in _CALL} | {"params": new.params, "first_token": _seconds(call.first_token)}
        yield "call", about | {"duration": _seconds(call.duration)}
        if call.reasoning:
            yield "thinking", {"text": call.reasoning}
        for choice in call.choices:
            tools = [self._asked(one.id, one.name, one.arguments) for one in choice.tool_calls]
            self.said.add(_mark("assistant", choice.text, tools))
            about = {"choice": choice.index, "of": len(call.choices), "text": choice.text, "tool_calls": tools}
            yield "answer", about | {"media": _media(choice), "finish_reason": choice.finish_reason}

    def _messages(self, messages: list[_About]) -> Iterator[tuple[str, _About]]:
        """Messages, but answers and results that were shown where they were given."""
        for message in messages:
            role, content = str(message.get("role")), message.get("content")
            listed = message.get("tool_calls")
            asked = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
            functions = [(one.get("id"), one.get("function")) for one in asked]
            tools = [self._asked(id, f.get("name"), f.get("arguments")) for id, f in functions if isinstance(f, dict)]
            if role in ("assistant", "tool") and _mark(role, content, tools) in self.said:
                continue
            if role == "user" and self.observed.get(mark := _mark(role, content)):
                self.observed[mark] -= 1
                continue
            about = {"role": role, "content": content, "tool_calls": tools}
            yield "message", about | {k: message[k] for k in ("name", "tool_call_id") if isinstance(message.get(k), str)}

    def _asked(self, id: Any, name: Any, arguments: Any) -> _About:
        """A tool call of an answer; `done`: an action has it."""
        return {"name": name, "arguments": arguments, "id": id, "done": isinstance(id, str) and id in self.done}

    def _note(self, note: Note) -> Iterator[tuple[str, _About]]:
        sent = note.data.get("messages") if note.name == "unanswered" and isinstance(note.data, dict) else None
        if isinstance(sent, list):
            yield from self._messages([m if isinstance(m, dict) else {"role": "user", "content": m} for m in sent])
        else:
            compacted = _COMPACTED.search(note.name or "") is not None
            about: _About = {"name": note.name, "data": note.data}
            yield ("compaction", about | {"text": _summary(note.data)}) if compacted else ("note", about)


def _media(choice: Choice) -> list[Any]:
    """The parts of an answer that are no text: images, and what was spoken."""
    content, spoken, images = (choice.message.get(name) for name in ("content", "audio", "images"))
    said = [media("audio/wav", spoken["data"])] if isinstance(spoken, dict) and isinstance(spoken.get("data"), str) else []
    return [p for found in (content, images, said) if isinstance(found, list) for p in found if is_media(p)]


def _summary(data: Any) -> str:
    """What a compaction left, in words: the summary, else how many messages; nothing where the source says neither."""
    about = data if isinstance(data, dict) else {"content": data}
    for name in ("summary", "message", "summaryContent", "content"):
        if isinstance(about.get(name), str) and about[name].strip():
            return str(about[name])
    left = about.get("replacement_history")
    return f"messages in the place of the history: {len(left):,}" if isinstance(left, list) else ""


def changes(edit: Edit, call: Call | None) -> list[dict[str, Any]] | None:
    """An edit as a reader follows it: what was kept, cut and put in, in the order of the result; each as text, or as token ids
    where the text of tokens is not known. None where the base is not known."""
    choice = next((c for c in call.choices if c.index == edit.choice), None) if call is not None else None
    if choice is None:
        return None
    base: Any = choice.reasoning or "" if edit.channel == "reasoning" else choice.text
    if edit.unit == "token":
        pieces = pieces_of(call, edit.choice) if call is not None else None
        base = pieces if pieces is not None and edit.channel != "reasoning" else choice.token_ids
    if base is None:
        return None
    out: list[dict[str, Any]] = []

    def add(op: str, part: Any) -> None:
        if not part:
            return
        if isinstance(part, list) and isinstance(part[0], str):
            part = "".join(part)
        out.append({"op": op, "text" if isinstance(part, str) else "ids": part})

    at = 0
    for run in edit.result:
        if not isinstance(run, Kept):
            add("put", run.text if run.text is not None else run.ids)
        elif run.call not in (None, edit.base) or run.choice not in (None, edit.choice):
            out.append({"op": "put", "text": f"[{run.start}:{run.stop}] of another answer", "of": run.call})
        elif run.start >= at:
            add("cut", base[at : run.start])
            add("keep", base[run.start : run.stop])
            at = run.stop
        else:
            add("moved", base[run.start : run.stop])
    add("cut", base[at:])
    return out


def happened(record: AnyRecord, imported: bool) -> int | None:
    """When a record happened, nanoseconds; None where an import's source does not say."""
    began = getattr(record, "started", None)
    return began or record.source_time or (None if imported else record.time)


def _mark(role: str, content: Any, tools: Iterable[_About] = ()) -> int:
    """The same for messages that say the same."""
    return hash((role, as_text(content).strip(), *(str(one["name"]) for one in tools)))


def _tree(t: Trajectory) -> tuple[list[AnyRecord], dict[str, list[AnyRecord]]]:
    """The records that happened inside no action, and those that happened inside each, in order."""
    by_id = {r.id: r for r in t.standing}
    home: dict[str, str | None] = {}  # of a record, the action that it happened inside
    outside: list[AnyRecord] = []
    inside: dict[str, list[AnyRecord]] = {}
    for record in t.standing:
        path: list[str] = []
        at: AnyRecord | None = record
        found: str | None = None
        while at is not None and at.id not in home:
            path.append(at.id)
            home[at.id] = None  # a chain that leads round in a circle ends here
            at = by_id.get(at.parent or "")
            if isinstance(at, Action):
                found = at.id
                break
        else:
            found = home[at.id] if at is not None else None
        home |= dict.fromkeys(path, found)
        (outside if found is None else inside.setdefault(found, [])).append(record)
    reached: set[str] = set()
    more = outside
    while more:
        reached.update(r.id for r in more)
        more = [inner for r in more for inner in inside.get(r.id, ())]
    lost = [r for r in t.standing if r.id not in reached]  # actions inside of each other
    for record in lost:
        inside.pop(record.id, None)
    return outside + lost, inside


def _outcome(action: Action) -> _About:
    return {"ok": action.ok, "error": action.error, "result": _told(action.result), "duration": _seconds(action.duration)}


def _told(result: Any) -> Any:
    """What a tool gave, without the envelope that Gemini's API puts around it; any other result as it is."""
    parts = result if isinstance(result, list) else []
    responses = [
        p["functionResponse"].get("response")
        for p in parts
        if isinstance(p, dict) and isinstance(p.get("functionResponse"), dict)
    ]
    found = [r.get("output", r.get("error")) for r in responses if isinstance(r, dict)]
    outputs = [o for o in found if isinstance(o, str)]
    return "\n".join(outputs) if outputs and len(outputs) == len(parts) else result


def _figures(t: Trajectory, step: Step) -> _About:
    """What a step cost: its beginning, its length by the clock of the source, its tokens and its price; None: not known."""
    of_source = "source" in t.metadata
    times: list[int] = []
    for record in (step.record, *step.llm_calls, *step.actions):
        when = None if record is None else record.source_time if of_source else record.source_time or record.time
        began = None if record is None or isinstance(record, StepStart) else record.started
        took = 0 if record is None or isinstance(record, StepStart) else record.duration or 0
        times += [one for one in (when, began, began + took if began is not None else None) if type(one) is int]
    return {
        "reward": step.reward,
        "time": iso_time(min(times)) if times else None,
        "duration": (max(times) - min(times)) / 1e9 if times and max(times) > min(times) else None,
        "cost": _cost(step.llm_calls),
        "prompt_tokens": added(*(c.prompt_tokens for c in step.llm_calls)),
        "completion_tokens": added(*(c.completion_tokens for c in step.llm_calls)),
    }


def _cost(calls: Iterable[Call]) -> float | None:
    known = [c.cost for c in calls if c.cost is not None]
    return sum(known) if known else None


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def compact(t: Trajectory, *, step: int | None = None, agent: str | None = None) -> Iterator[tuple[str, Any]]:
    """The fields of a JSON object whose size is that of what was said: the facts, and the session's entries one by one."""
    entries = session(t, step=step, agent=agent)
    first = [e for e in [next(entries, None)] if e is not None]  # a wrong step or agent is told before anything is written
    yield from facts(t).items()
    yield "metadata", t.metadata
    yield "session", ({f: getattr(e, f) for f in _PLACE} | e.about for e in itertools.chain(first, entries))


def snippet(text: str, words: str, size: int) -> str:
    """The part of a text around the first of the words that were searched for."""
    low = text.lower()
    places = [p for w in words.replace('"', " ").lower().split() if (p := low.find(w)) >= 0]
    start = max(0, (min(places) if places else 0) - size // 3)
    return ("…" if start else "") + text[start : start + size] + ("…" if start + size < len(text) else "")
