"""Sessions of Kimi CLI: a folder with `context.jsonl`, what the model is sent, and `wire.jsonl`, what happened and when.

A context holds messages in OpenAI's shape, with marks in between: `_usage` (tokens of the whole context), `_checkpoint` and
`_system_prompt`. A compaction, a revert and `/clear` begin the file anew; the file before stays beside it as `context_1.jsonl`.
Sub-agents have folders of the same kind below `subagents`. Older versions have one file, `<session>.jsonl`.

Source: MoonshotAI/kimi-cli, src/kimi_cli/soul/context.py, wire/file.py, wire/types.py, subagents/store.py.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import added, content_text, dicts, integer, items, obj, text
from ...types import Action, Note, Start
from .. import peek
from ..session import Lines, NotBegun, Session
from ..transcript import Transcript
from .kimi_wire import Wire, is_wire

NAME = "kimi"
_MARKS = ("_usage", "_checkpoint", "_system_prompt")
_MESSAGES = ("user", "assistant", "tool", "system", "_system_prompt")


def recognise(path: Path, head: bytes) -> bool:
    """A session's folder; lines with roles, among them a mark of the program within the first lines; or lines of the wire."""
    if not head:
        return (path / "context.jsonl").is_file() and (path / "wire.jsonl").is_file()
    roles: list[Any] = []
    for line in head.split(b"\n")[:50]:
        if line.strip():
            try:
                value = peek.value(line)
            except InvalidInput:
                break
            if not roles and is_wire(value):
                return True
            if not isinstance(value, dict) or "role" not in value:
                return False
            roles.append(value["role"])
    return any(role in _MARKS for role in roles if isinstance(role, str))


def read(path: Path) -> Iterator[Session]:
    """The session of a folder, or of the folder that a file is in. Raises NotBegun where it has no message."""
    folder = path if path.is_dir() else path.parent
    of_folder = path.is_dir() or re.fullmatch(r"(context(_sub)?(_\d+)?|wire)\.jsonl", path.name) is not None
    if of_folder and folder.parent.name == "subagents":
        folder = folder.parents[1]
    stem = "context" if of_folder else re.sub(r"_\d+$", "", path.stem)
    wire = Wire(folder / "wire.jsonl") if of_folder else Wire(None)
    problems = list(wire.problems)
    talk = _generations(folder, stem, problems) or [wire.messages(None)]
    first = next((m for entries in talk for m in entries if m.get("role") in _MESSAGES[:-1]), None)
    if first is None:
        raise NotBegun("a Kimi session without a message")
    id = folder.name if of_folder else stem
    session = Session(NAME, id if len(id) > 8 else content_hash(first))
    for problem in problems:
        session.warn(problem)
    task = next((told for m in [*wire.asked, *_users(talk)] if (told := _told(m)) and not told.startswith("/")), None)
    state = _json(folder / "state.json") if of_folder else {}
    about = {k: state[k] for k in ("custom_title", "plan_mode") if state.get(k)}
    source = {"format": NAME, "path": (folder if of_folder else path).name, "session": id, **about, "interactive": True}
    started = Start(task=task, agent="kimi-cli", source_time=wire.began, metadata={"source": source})
    session.add(started, "start")
    main = _Reader(session, wire, None)
    main.waiting = list(_agents(folder, wire)) if of_folder else []
    main.read(talk)
    for agent in main.waiting:
        main.start(agent, None)
    main.note_others(None)
    yield session


def _generations(folder: Path, stem: str, problems: list[str]) -> list[list[dict[str, Any]]]:
    """The entries of a context's files, the oldest first. A file that was begun anew leaves the older one under a number."""
    older = [
        (int(m[1]), p)
        for p in peek.files_in(folder, f"{stem}_*.jsonl")
        if (m := re.fullmatch(rf"{re.escape(stem)}_(\d+)", p.stem))
    ]
    found: list[list[dict[str, Any]]] = []
    for path in [*(p for _, p in sorted(older)), folder / f"{stem}.jsonl"]:
        if path.is_file():
            lines = Lines(path)
            entries = [v for _, v in lines if isinstance(v, dict)]
            problems += lines.problems
            if any(e.get("role") in _MESSAGES for e in entries):
                found.append(entries)
    return found


class Agent(NamedTuple):
    """A sub-agent: its id, its kind, the call that started it, and what it was sent."""

    id: str
    kind: str | None
    call: str | None
    talk: list[list[dict[str, Any]]]


def _agents(folder: Path, wire: Wire) -> Iterator[Agent]:
    named = {p.name: p for p in sorted((folder / "subagents").glob("*")) if p.is_dir()}
    for name in dict.fromkeys([*wire.agents, *named]):
        call, kind = wire.agents.get(name, (None, None))
        kind = text(_json(named[name] / "meta.json").get("subagent_type")) or kind if name in named else kind
        contexts = _generations(named[name], "context", []) if name in named else []
        yield Agent(name, kind, call, contexts or [wire.messages(name)])
    for path in peek.files_in(folder, "context_sub*.jsonl"):  # of older versions
        yield Agent(path.stem.removeprefix("context_"), None, None, [[v for _, v in Lines(path) if isinstance(v, dict)]])


def _json(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):  # not there, or written at this moment
        return {}


def _users(talk: list[list[dict[str, Any]]]) -> Iterator[Any]:
    return (m.get("content") for entries in talk for m in entries if m.get("role") == "user")


def _told(content: Any) -> str | None:
    """What a person said, without the parts that the program wrote."""
    parts = [content] if isinstance(content, str) else [p.get("text") for p in dicts(content)]
    return next((p for p in parts if isinstance(p, str) and p.strip() and not p.lstrip().startswith("<system")), None)


class _Reader:
    """One conversation of the session: the main one, or a sub-agent's."""

    def __init__(self, session: Session, wire: Wire, id: str | None, kind: str | None = None) -> None:
        self.session = session
        self.wire = wire
        self.id = id
        agent = None if id is None else f"{kind or 'agent'}-{id}"
        if id is not None:
            session.known(agent, id)
        self.transcript = Transcript(session, agent=agent)
        #: The messages of the file before, and where each ends in the history.
        self.before: list[tuple[dict[str, Any], int]] = []
        #: The wire's events that no note tells of yet.
        self.others = deque(enumerate(wire.others) if id is None else ())
        #: Sub-agents whose call did not come yet.
        self.waiting: list[Agent] = []

    def start(self, agent: Agent, by: Action | None) -> None:
        """What a sub-agent did, where it was started."""
        reader = _Reader(self.session, self.wire, agent.id, agent.kind)
        self.session.within(reader.transcript.agent, by.id if by is not None else None)
        reader.read(agent.talk)

    def note_others(self, before: int | None) -> None:
        """What else happened before a time; all that is left, where none is given."""
        while self.others and (before is None or self.others[0][1][0] is None or self.others[0][1][0] <= before):
            number, (when, kind, payload) = self.others.popleft()
            self.session.add(Note(name=kind, data=payload, source_time=when), "event", number)

    def read(self, talk: list[list[dict[str, Any]]]) -> None:
        for number, entries in enumerate(talk):
            self._file(number, entries)
        self.transcript.close()

    def _file(self, number: int, entries: list[dict[str, Any]]) -> None:
        history = self.transcript.history
        messages = [e for e in entries if e.get("role") in _MESSAGES]
        before = [m for m, _ in self.before]
        same = next(
            (n for n, (a, b) in enumerate(zip(before, messages, strict=False)) if a != b), min(len(before), len(messages))
        )
        # what stands behind the summary of a compaction are the last messages of the file before; not all may be written yet
        rest = messages[same + 1 :]
        places = range(same, len(before))
        first = next((n for n in places if rest and all(a == b for a, b in zip(before[n:], rest, strict=False))), len(before))
        kept = min(len(rest), len(before) - first)
        old = {id(m) for m in [*messages[:same], *rest[:kept]]}
        if number:
            self.transcript.history = history[: self.before[same - 1][1] if same else 0]
        copied = before[first:]
        place, self.before = {id(m): n for n, m in enumerate(messages)}, self.before[:same]
        new = not number
        for index, entry in enumerate(entries):
            if id(entry) in old:
                if (at := place[id(entry)]) > same:
                    self.transcript.history.append(_sent(copied[at - same - 1]))
            elif entry.get("role") in _MESSAGES:
                new = True
                self._message(entry)
            elif new:
                self._mark((number, index) if number else (index,), entry)
            if entry.get("role") in _MESSAGES and place[id(entry)] >= same:
                self.before.append((entry, len(self.transcript.history)))

    def _mark(self, key: tuple[int, ...], entry: dict[str, Any]) -> None:
        # what the context holds now: the prompt of the call before, and its answer
        data = {"token_count": integer(entry.get("token_count")), "checkpoint": entry.get("id")}
        note = Note(
            name=str(entry.get("role")), data={k: v for k, v in data.items() if v is not None}, agent=self.transcript.agent
        )
        self.session.add(note, "mark", *([] if self.id is None else [self.id]), *key)

    def _message(self, entry: dict[str, Any]) -> None:
        transcript, role = self.transcript, entry.get("role")
        if role == "_system_prompt":
            transcript.saw(_sent(entry), observed=False)
        elif role == "assistant":
            self._reply(entry)
        elif role != "tool":
            transcript.saw(entry, when=self.wire.asked_at(self.id, entry.get("content")))
        else:
            transcript.saw(entry)
            id = text(entry.get("tool_call_id"))
            outcome = {"ok": _went_well(entry.get("content")), **self.wire.outcome(id, transcript.action(id))}
            if not transcript.result(id, result=entry.get("content"), **outcome):
                self.session.warn("tool results that no call in the file asked for")

    def _reply(self, entry: dict[str, Any]) -> None:
        thoughts = [t for p in items(entry.get("content")) if isinstance(p, dict) and (t := text(p.get("think")))]
        step = self.wire.step_of(self.id, entry)
        usage = obj(step.usage)
        counts = [integer(usage.get(n)) for n in ("input_other", "input_cache_read", "input_cache_creation")]
        if step.began is not None:
            self.note_others(step.began)
        took = step.ended - step.began if step.ended is not None and step.began is not None else None
        self.transcript.replied(
            _answer(entry, thoughts),
            reasoning="\n\n".join(thoughts) or None,
            when=step.began,
            duration=took if took is not None and took >= 0 else None,
            usage=usage or None,
            prompt_tokens=added(*counts),
            completion_tokens=integer(usage.get("output")),
            extra={"message_id": step.message} if step.message else None,
        )
        for asked in dicts(entry.get("tool_calls")) if self.waiting else ():
            action = self.transcript.action(text(asked.get("id")))
            prompt = obj(action.arguments).get("prompt") if action is not None else None
            for agent in [a for a in self.waiting if action is not None and _is_asked(a, action.tool_call_id, prompt)]:
                self.waiting.remove(agent)
                self.start(agent, action)


def _went_well(content: Any) -> bool:
    """Whether a tool succeeded: the program marks what a failed one gives."""
    return not (content_text(content) or "").startswith("<system>ERROR:")


def _is_asked(agent: Agent, call: str | None, prompt: Any) -> bool:
    """Whether a call started an agent: its id is known, or its prompt is what the agent was asked."""
    if agent.call is not None:
        return agent.call == call
    asked = next((t for content in _users(agent.talk) if (t := content_text(content))), None)
    return asked is not None and asked == prompt


def _answer(entry: dict[str, Any], thoughts: list[str]) -> dict[str, Any]:
    """An answer as it is sent again: what the model thought stands beside the content."""
    if not thoughts:
        return entry
    rest = [p for p in items(entry.get("content")) if not (isinstance(p, dict) and p.get("type") == "think")]
    only = rest[0].get("text") if len(rest) == 1 and isinstance(rest[0], dict) and rest[0].get("type") == "text" else None
    return {**entry, "content": only if only is not None else rest or None, "reasoning_content": "\n\n".join(thoughts)}


def _sent(entry: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": entry.get("content")} if entry.get("role") == "_system_prompt" else entry
