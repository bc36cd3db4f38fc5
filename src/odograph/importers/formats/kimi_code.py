"""Sessions of Kimi Code, which followed Kimi CLI: a folder with `state.json` and a `wire.jsonl` for each agent below `agents`.

A wire is what happened, in order: messages that the model is sent (`context.append_message`), steps with their parts, calls and
results (`context.append_loop_event`), requests with their tools, and what changes the context: `context.undo`, `context.clear`,
`context.apply_compaction`. A fork copies the wires and says where it began (`forked`).

Source: MoonshotAI/kimi-code, packages/agent-core-v2/src/agent (contextMemory, contextProjector), and a session that version 2.1.0
wrote.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...clock import iso_time
from ...codec import loads
from ...errors import InvalidInput
from ...shape import added, arguments, content_text, dicts, integer, items, number, obj, text, without
from ...types import Action, Fork, Note, Start
from .. import peek
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "kimi-code"
#: Lines that repeat another, or are read where that line is.
_TOLD = (
    "metadata", "runtime.set_binding", "turn.prompt", "turn.steer", "prompt.accepted", "prompt.completed", "plugin.session_start",
    "usage.record", "subagent.started", "tools.set_active_tools", "tools.reset_active_tools",
)  # fmt: skip
_PREFIXES = ("agent.", "token_counting.")
#: Tools whose result the model is sent with the time that they took, where the wire has it.
_TIMED = ("Agent", "AgentSwarm", "Bash", "FetchURL", "Glob", "Grep", "WebSearch")
_FAILED, _EMPTY = "<system>ERROR: Tool execution failed.", "Tool output is empty.</system>"
#: How the result of a call begins that ran a sub-agent.
_AGENT = re.compile(r"agent_id: (\S+)(?:\nactual_subagent_type: (\S+))?")
_INTERRUPTED = "Tool execution was interrupted before its result was recorded. Do not assume the tool completed successfully."


def recognise(path: Path, head: bytes) -> bool:
    """A session's folder; or a wire, whose first line says when it was created."""
    if not head:
        return (path / "agents" / "main" / "wire.jsonl").is_file()
    return is_wire(head)


def is_wire(head: bytes) -> bool:
    """Whether a file is a wire of Kimi Code, and not of Kimi CLI, by its first bytes."""
    try:
        first = obj(peek.value(head.lstrip().split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    return first.get("type") == "metadata" and {"protocol_version", "created_at"} <= first.keys()


def read(path: Path) -> Iterator[Session]:
    """The session of a folder, or of the folder that a wire is in. Raises NotBegun where nothing was said, or where it is a fork
    that nothing was said in since."""
    folder = path if path.is_dir() else path.absolute().parent.parent.parent
    if not (folder / "agents" / "main" / "wire.jsonl").is_file():
        raise InvalidInput("a wire of Kimi Code outside of a session's folder; agents/main/wire.jsonl was expected")
    state = _json(folder / "state.json")
    main = _Wire(folder / "agents" / "main" / "wire.jsonl")
    id = text(state.get("id")) or folder.name
    session = Session(NAME, id)
    for problem in main.problems:
        session.warn(problem)
    begun = max((n + 1 for n, entry in enumerate(main.entries) if entry.get("type") == "forked"), default=0)
    past = _Reader(Session(NAME, id, "past"), None)  # a fork's history: its records are the parent's
    past.read(main.entries[:begun])
    own = main.entries[begun:]
    if not any(str(entry.get("type")).startswith("context.") for entry in own):
        raise NotBegun("a session of Kimi Code in which nothing was said")
    prompts = [*(e for e in own if e.get("type") == "turn.prompt"), *(e for e in main.entries if e.get("type") == "turn.prompt")]
    asked = (content_text(e.get("input")) for e in prompts if obj(e.get("origin")).get("kind") in ("user", None))
    parent = text(state.get("forkedFrom"))
    about = {k: state[k] for k in ("title", "cwd", "lastTurnReason", "forkedFrom", "custom") if state.get(k)}
    start = Start(
        task=next((t for t in asked if t and not t.startswith("/")), None),
        agent="kimi-code",
        source_time=parse_time(own[0].get("time")) if begun else parse_time(state.get("createdAt")) or main.began,
        metadata={"source": {"format": NAME, "path": folder.name, "session": id, **about, "interactive": True}},
        fork=Fork(trajectory=Session(NAME, parent).id, step=past.transcript.step + 1, reason="fork")
        if parent and begun
        else None,
    )
    start = session.add(start, "start")
    reader = _Reader(session, folder)
    if begun:
        reader.goes_on(past)
    reader.read(own)
    reader.close()
    if reader.transcript.model is not None:
        session.replace(start, model=reader.transcript.model)
    yield session


def _json(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):  # not there, or written at this moment
        return {}


class _Wire:
    def __init__(self, path: Path) -> None:
        lines = Lines(path)
        self.entries = [v for _, v in lines if isinstance(v, dict)]
        self.problems = lines.problems
        self.began = next((parse_time(e.get("created_at")) for e in self.entries if e.get("type") == "metadata"), None)


class _Said(NamedTuple):
    """A message as the model is sent it, where it comes from, and what the source calls it."""

    message: dict[str, Any]
    origin: dict[str, Any]
    id: str | None = None


class _Step:
    """A step until it ends: tools run, and give their results, meanwhile."""

    def __init__(self, event: dict[str, Any], when: int | None) -> None:
        self.id = text(event.get("uuid"))
        self.began = when
        self.parts: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.results: dict[Any, dict[str, Any]] = {}
        self.figures: dict[str, Any] = {}


class _Reader:
    """One agent's conversation."""

    def __init__(self, session: Session, folder: Path | None, id: str | None = None, kind: str | None = None) -> None:
        name = None if id is None else f"{kind or 'agent'}-{id}"
        if id is not None:
            session.known(name, id)
        self.session = session
        #: Where the sub-agents' wires are; None: they are not read.
        self.folder = folder
        self.id = id
        self.transcript = Transcript(session, agent=name)
        #: The sub-agents that were read.
        self.read_agents: set[str] = set()
        #: The messages of the context, one for each of the transcript's.
        self.said: list[_Said] = []
        self.step: _Step | None = None
        #: What came while the results of a step's tools were open, and is sent behind these.
        self.deferred: list[tuple[_Said, int | None]] = []
        self.tools: dict[Any, Any] = {}
        self.request: dict[str, Any] = {}
        #: The sub-agents that a call started: of each its id and its kind.
        self.started: dict[Any, list[tuple[str | None, str | None]]] = {}
        self.notes: deque[tuple[int, dict[str, Any]]] = deque()

    def goes_on(self, past: _Reader) -> None:
        """Begins with what another reader read."""
        self.said, self.tools, self.request = past.said, past.tools, past.request
        self.transcript.history = past.transcript.history
        self.transcript.model = past.transcript.model

    def read(self, entries: list[dict[str, Any]]) -> None:
        for line, entry in enumerate(entries):
            kind, when = entry.get("type"), parse_time(entry.get("time"))
            if kind == "context.append_message":
                self._message(obj(entry.get("message")), when)
            elif kind == "context.append_loop_event":
                self._event(obj(entry.get("event")), when)
            elif kind in ("profile.bind", "config.update"):
                self._system(text(entry.get("systemPrompt")))
            elif kind == "llm.tools_snapshot":
                named = [without(t, "deferred") for t in dicts(entry.get("tools"))]
                self.tools[entry.get("hash")] = [{"type": "function", "function": t} for t in named]
            elif kind == "llm.request":
                if entry.get("kind") == "compaction":
                    self.notes.append((line, entry))
                else:
                    self.request = entry
            elif kind == "subagent.spawned":
                spawned = (text(entry.get("subagentId")), text(entry.get("subagentName")))
                self.started.setdefault(entry.get("parentToolCallId"), []).append(spawned)
            elif kind in ("context.undo", "context.clear", "context.apply_compaction"):
                self._settle()
                self._change(str(kind), entry)
                self.notes.append((line, entry))
            elif kind == "swarm_mode.exit" and self.said and self.said[-1].origin.get("variant") == "swarm_mode":
                self._set(self.said[:-1])
            elif not (kind in _TOLD or entry.get("kind") == "event" or str(kind).startswith(_PREFIXES)):
                self.notes.append((line, entry))
            if self.step is None:
                self._tell_notes()
        self._settle(over=False)

    def close(self) -> None:
        self._tell_notes()
        self.transcript.close()

    def _tell_notes(self) -> None:
        while self.notes:
            line, entry = self.notes.popleft()
            data = without(entry, "type", "time", "agentId")
            note = Note(
                name=str(entry.get("type")), data=data, agent=self.transcript.agent, source_time=parse_time(entry.get("time"))
            )
            self.session.add(note, "event", *([] if self.id is None else [self.id]), line)

    def _system(self, prompt: str | None) -> None:
        if prompt is not None:
            self._set([_Said({"role": "system", "content": prompt}, {"kind": "system"}), *self.said[self._first() :]])

    def _first(self) -> int:
        """Where the conversation begins behind the system prompt."""
        return int(bool(self.said) and self.said[0].origin.get("kind") == "system")

    def _set(self, said: list[_Said]) -> None:
        self.said, self.transcript.history = [], []
        for one in said:
            self.transcript.history.append(one.message)
            self._keep(one)

    def _keep(self, said: _Said) -> None:
        """Keeps what is the last message of the history. What a person said after each other is sent as one message."""
        history = self.transcript.history
        if self.said and said.origin.get("kind") == self.said[-1].origin.get("kind") == "user":
            both = history.pop(), history.pop()
            history.append({"role": "user", "content": _joined([m["content"] for m in reversed(both)])})
        self.said.append(said)

    def _change(self, kind: str, entry: dict[str, Any]) -> None:
        head, talk = self.said[: self._first()], self.said[self._first() :]
        if kind == "context.clear":
            self._set(head)
        elif kind == "context.undo":
            cut = _undone(talk, integer(entry.get("count")) or 0)
            self._set([*head, *talk[:cut]])
        else:
            given = entry.get("contextSummary", entry.get("summary"))
            told = content_text(obj(given).get("content")) if isinstance(given, dict) else given
            summary = _Said({"role": "user", "content": told}, {"kind": "compaction_summary"})
            tail, first = integer(entry.get("keptUserMessageCount")), integer(entry.get("keptHeadUserMessageCount")) or 0
            if tail is None:
                compacted = integer(entry.get("compactedCount", entry.get("count"))) or 0
                self._set([*head, summary, *talk[compacted:]])
            else:
                people = [one for one in talk if _is_asked(one)]
                last = people[max(first, len(people) - (tail - first)) :]
                self._set([*head, *people[:first], *last, summary])

    def _message(self, given: dict[str, Any], when: int | None) -> None:
        role, content = text(given.get("role")) or "user", items(given.get("content"))
        message: dict[str, Any] = {"role": role, "content": _content(content)}
        if role == "assistant":
            message |= _answer(content, dicts(given.get("toolCalls")))
        elif role == "tool":
            message["tool_call_id"] = given.get("toolCallId")
        said = _Said(message, obj(given.get("origin")), text(given.get("id")))
        if self.step is not None:
            self.deferred.append((said, when))
        else:
            self._sent(said, when)

    def _sent(self, said: _Said, when: int | None, noted: bool = False) -> None:
        is_person = said.origin.get("kind") in (None, "user", "skill_activation", "plugin_command", "system_trigger")
        is_user = said.message["role"] == "user"
        self.transcript.saw(said.message, observed=is_user and is_person, noted=noted, id=said.id, when=when)
        self._keep(said)

    def _event(self, event: dict[str, Any], when: int | None) -> None:
        kind, step = event.get("type"), self.step
        if kind == "step.begin":
            self._settle()
            self.step = _Step(event, when)
        elif step is None:
            return
        elif kind == "content.part" and event.get("stepUuid") == step.id:
            step.parts.append(obj(event.get("part")))
        elif kind == "tool.call" and event.get("stepUuid") == step.id:
            step.calls.append({**event, "time": when})
        elif kind == "tool.result":
            step.results[event.get("toolCallId")] = {**event, "time": when}
        elif kind == "step.end":
            step.figures = {**event, "time": when}
            if event.get("finishReason") not in ("interrupted", "error"):
                self._settle()

    def _settle(self, over: bool = True) -> None:
        """Records a step, and what waited for it is sent behind it. `over`: the program goes on; else the wire ends here."""
        step, self.step = self.step, None
        if step is not None and (step.calls or not all(p.get("type") in ("text", "think") and not _told(p) for p in step.parts)):
            self._reply(step, over)
        deferred, self.deferred = self.deferred, []
        for said, when in deferred:
            self._sent(said, when)

    def _reply(self, step: _Step, over: bool) -> None:
        transcript, request = self.transcript, self.request
        answer = _answer(step.parts, step.calls)
        usage = obj(step.figures.get("usage"))
        counts = [integer(usage.get(n)) for n in ("inputOther", "inputCacheRead", "inputCacheCreation")]
        took = [number(step.figures.get(n)) for n in ("llmFirstTokenLatencyMs", "llmStreamDurationMs")]
        transcript.model = text(request.get("model")) or transcript.model
        transcript.tools = self.tools.get(request.get("toolsHash"), transcript.tools)
        asked = ("provider", "thinkingEffort", "temperature", "topP", "maxTokens", "attempt", "turnStep", "modelAlias")
        transcript.replied(
            answer,
            when=step.began,
            id=step.id,
            model=transcript.model,
            usage=usage or None,
            prompt_tokens=added(*counts),
            completion_tokens=integer(usage.get("output")),
            finish_reason=text(step.figures.get("rawFinishReason")) or text(step.figures.get("finishReason")),
            duration=round(sum(t for t in took if t is not None) * 1e6) if any(t is not None for t in took) else None,
            extra={
                "uuid": step.id,
                **({"ended": iso_time(ended)} if (ended := step.figures.get("time")) is not None else {}),
                **({"message_id": m} if (m := text(step.figures.get("messageId"))) else {}),
                **({"request": kept} if (kept := {k: request[k] for k in asked if request.get(k) is not None}) else {}),
            },
        )
        self.said.append(_Said(answer, {"kind": "model"}))
        for call in step.calls:
            self._result(call, step, over)
        for call in step.calls:
            id = call.get("toolCallId")
            told = _AGENT.match(str(obj(obj(step.results.get(id)).get("result")).get("output")))
            for agent, kind in self.started.pop(id, [(told[1], told[2])] if told else []):
                self._start(agent, kind, transcript.action(text(id)))

    def _result(self, call: dict[str, Any], step: _Step, over: bool) -> None:
        id = text(call.get("toolCallId"))
        event = step.results.get(id)
        self.transcript.result(id, source_time=call["time"])
        if event is None:
            if over:
                sent = _rendered(_INTERRUPTED, True, None, None)
                self._sent(_Said({"role": "tool", "tool_call_id": id, "content": sent}, {}), None, noted=True)
            return
        given, took = obj(event.get("result")), integer(obj(event.get("result")).get("durationMs"))
        output = given.get("output")
        self.transcript.result(
            id,
            result=output,
            ok=given.get("isError") is not True,
            duration=took * 1_000_000 if took is not None else None,
            started=call["time"],
            extra={k: given[k] for k in ("note",) if given.get(k)} or None,
        )
        name = str(call.get("name") or "")
        timed = took if name in _TIMED or name.startswith("mcp__") else None
        sent = _rendered(output, given.get("isError") is True, timed, text(given.get("note")))
        self._sent(_Said({"role": "tool", "tool_call_id": id, "content": sent}, {}), event["time"], noted=True)

    def _start(self, id: str | None, kind: str | None, by: Action | None) -> None:
        """What a sub-agent did, inside of the call that started it."""
        if self.folder is None or id is None or "/" in id or id in self.read_agents:
            return
        path = self.folder / "agents" / id / "wire.jsonl"
        if not path.is_file():
            self.session.warn("sub-agents whose wire is not there")
            return
        self.read_agents.add(id)
        wire = _Wire(path)
        for problem in wire.problems:
            self.session.warn(problem)
        reader = _Reader(self.session, self.folder, id, kind)
        reader.read_agents = self.read_agents
        self.session.within(reader.transcript.agent, by.id if by is not None else None)
        reader.read(wire.entries)
        reader.close()


def _told(part: dict[str, Any]) -> bool:
    return any(isinstance(part.get(name), str) and part[name].strip() for name in ("text", "think"))


def _content(parts: list[Any]) -> Any:
    """A content as it is sent: a text where it is one."""
    only = dicts(parts)
    return only[0].get("text") if len(only) == 1 and only[0].get("type") == "text" else parts


def _joined(contents: list[Any]) -> Any:
    """Contents as one: the texts with an empty line between, and the other parts behind."""
    parts = [[{"type": "text", "text": c}] if isinstance(c, str) else items(c) for c in contents]
    texts = (
        "".join(p["text"] for p in dicts(one) if p.get("type") == "text" and isinstance(p.get("text"), str)) for one in parts
    )
    rest = [p for one in parts for p in one if obj(p).get("type") != "text"]
    return _content([{"type": "text", "text": "\n\n".join(t for t in texts if t)}, *rest])


def _answer(parts: list[dict[str, Any]], calls: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer; what the model thought is sent again."""
    thoughts = [t for p in parts if (t := text(p.get("think")))]
    rest = [p for p in parts if p.get("type") != "think"]
    said = "".join(str(p.get("text") or "") for p in rest) if all(p.get("type") == "text" for p in rest) else rest
    asked = []
    for call in calls:
        function = obj(call.get("function"))  # of older versions
        given = call.get("args", call.get("arguments", function.get("arguments")))
        name = call.get("name", function.get("name"))
        asked.append(
            {
                "id": call.get("toolCallId", call.get("id")),
                "type": "function",
                "function": {"name": name, "arguments": arguments(given)},
            }
        )
    answer: dict[str, Any] = {"role": "assistant", "content": said or None, **({"tool_calls": asked} if asked else {})}
    return answer | ({"reasoning_content": "\n\n".join(thoughts)} if thoughts else {})


def _rendered(output: Any, failed: bool, took: int | None, note: str | None) -> Any:
    """A tool's result as the model is sent it: the program writes around it how it went, and how long it took."""
    parts = [{"type": "text", "text": output}] if isinstance(output, str) else dicts(output)
    texts = [p.get("text") if isinstance(p.get("text"), str) else None for p in parts]
    empty = all(t is not None and t.strip() in ("", "Tool output is empty.") for t in texts)
    if len(parts) == 1 and texts[0] is not None and not empty:
        parts = [{"type": "text", "text": f"{_FAILED}</system>\n{texts[0]}" if failed else texts[0]}]
    elif empty:
        parts = [{"type": "text", "text": f"{_FAILED} {_EMPTY}" if failed else f"<system>{_EMPTY}"}]
    elif failed:
        parts = [{"type": "text", "text": f"{_FAILED}</system>"}, *parts]
    if took is not None:
        header = f"Wall time: {took / 1000:.3f} seconds"
        if isinstance(parts[0].get("text"), str):
            parts = [{"type": "text", "text": f"{header}\n{parts[0]['text']}"}, *parts[1:]]
        else:
            parts = [{"type": "text", "text": header}, *parts]
    if note:
        one = len(parts) == 1 and isinstance(parts[0].get("text"), str)
        parts = [{"type": "text", "text": f"{parts[0]['text']}\n{note}"}] if one else [*parts, {"type": "text", "text": note}]
    return _content(parts)


def _is_asked(said: _Said) -> bool:
    """Whether a person said it."""
    kind = said.origin.get("kind")
    by_hand = kind in ("skill_activation", "plugin_command") and said.origin.get("trigger") == "user-slash"
    return said.message.get("role") == "user" and (kind in (None, "user") or by_hand)


def _undone(talk: list[_Said], count: int) -> int:
    """Where a conversation ends from which so many of a person's prompts were taken back, with all behind them."""
    left = count
    for n in range(len(talk) - 1, -1, -1):
        if talk[n].origin.get("kind") == "compaction_summary":
            break
        if _is_asked(talk[n]):
            left -= 1
            if left == 0:
                while n and talk[n].id is not None and talk[n - 1].origin.get("ownerPromptId") == talk[n].id:
                    n -= 1
                return n
    return len(talk)
