"""Qwen Code sessions: JSON lines with `uuid`, `parentUuid` and `sessionId`, whose messages are Gemini contents (`parts`).

Source: the chats below `~/.qwen`. A line of type `assistant` is one reply, one of type `tool_result` what the model was
sent of a tool. Requests are rebuilt in OpenAI's chat shape from the branch of `parentUuid` that led to the reply; a
compression (`systemPayload.compressedHistory`) takes the history's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import dicts, integer, items, nanoseconds, obj, text, without
from ...types import Action, Fork, LLMCall, Note, Start, StepStart
from .. import peek
from ..session import Lines, NotBegun, Session, observed_where, parse_time
from .gemini_parts import succeeded, without_files

NAME = "qwen-code"
_NOT_ASKED = ("/", "This is the Qwen Code. We are setting up the context", "<session_context>", "<environment")
_COMMON = ("uuid", "parentUuid", "sessionId", "timestamp", "type", "cwd", "version", "gitBranch", "message", "usageMetadata")


def recognise(path: Path, head: bytes) -> bool:
    """A line with `uuid`, `sessionId` and what Claude Code's have not (`parts`, the role `model`) within the first 50."""
    for line in head.split(b"\n")[:50]:
        try:
            value = peek.value(line)
        except InvalidInput:
            continue
        if not isinstance(value, dict):
            return False
        if "uuid" in value and "sessionId" in value:
            message = value.get("message")
            if isinstance(message, dict) and ("content" in message or "parts" in message):
                return "parts" in message
            if obj(message).get("role") == "model" or value.keys() & {"systemPayload", "usageMetadata"}:
                return True
    return False


class _Reader:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.history: list[Any] = []
        self.spots: dict[str, tuple[list[Any], int]] = {}
        self.observed: list[Any] = []
        self.unanswered: list[dict[str, Any]] = []
        self.actions: dict[str, Action] = {}
        #: What a call is answered with that has no result in the file: why the program did not run it.
        self.refused: dict[str, str] = {}
        self.step = -1

    def take(self, event: dict[str, Any]) -> None:
        when = parse_time(event.get("timestamp"))
        kind, message = event.get("type"), obj(event.get("message"))
        uuid = text(event.get("uuid")) or content_hash(event)
        if kind in ("user", "assistant") and message:
            self._answer_refused()
        if kind == "user" and message:
            self._go_back(event)
            said = _chat(message)
            self.history += said
            self.observed.append(said[0]["content"] if said else None)
            self.unanswered += [{**m, "uuid": uuid, "timestamp": event.get("timestamp")} for m in said]
        elif kind == "assistant" and message:
            self._reply(event, message, uuid, when)
        elif kind == "tool_result" and message:
            self._result(event, message, uuid, when)
        else:
            compressed = obj(event.get("systemPayload")).get("compressedHistory")
            if isinstance(compressed, list):
                self.history = [m for c in dicts(compressed) for m in _chat(c)]
            self._refuse(obj(obj(event.get("systemPayload")).get("uiEvent")))
            name = f"{kind}:{event['subtype']}" if text(event.get("subtype")) else str(kind)
            self.session.add(Note(name=name, data=without(event, "type", "timestamp"), source_time=when), "event", uuid)
        self.spots[uuid] = (self.history, len(self.history))

    def _refuse(self, told: dict[str, Any]) -> None:
        """In an editor (`qwen --acp`), telemetry alone says that a person refused a tool, and what the model is told."""
        error = text(told.get("error"))
        if told.get("event.name") != "qwen-code.tool_call" or told.get("success") is not False or error is None:
            return
        for id, action in reversed(self.actions.items()):
            if action.result is None and (action.name, action.arguments) == (
                told.get("function_name"),
                told.get("function_args"),
            ):
                self.refused[id] = error
                return

    def _answer_refused(self) -> None:
        for id, error in self.refused.items():
            action = self.actions[id]
            if action.result is None:
                self.history.append({"role": "tool", "tool_call_id": action.tool_call_id, "content": error})
                self.actions[id] = self.session.replace(action, result=error, ok=False, error=error)
        self.refused = {}

    def _go_back(self, event: dict[str, Any]) -> None:
        """A prompt that hangs on an earlier line than the last leaves a branch; one that hangs on none begins anew."""
        parent = event.get("parentUuid")
        if parent is None and "parentUuid" in event and self.history:
            self.leave()
            self.history = []
        base, stop = (
            self.spots.get(parent, (self.history, len(self.history))) if isinstance(parent, str) else (self.history, None)
        )
        if base is not self.history or any(m.get("role") in ("user", "assistant") for m in base[stop:] if stop is not None):
            self.leave()
            self.history = base[:stop]

    def leave(self) -> None:
        """What no reply followed is kept in a note; where one follows later, the reply's step takes its place."""
        if self.unanswered:
            when = parse_time(self.unanswered[0]["timestamp"])
            note = Note(name="unanswered", data={"messages": self.unanswered}, source_time=when)
            self.session.add(note, "step", self.unanswered[0]["uuid"])
        self.unanswered, self.observed = [], []

    def _reply(self, event: dict[str, Any], message: dict[str, Any], uuid: str, when: int | None) -> None:
        self.step += 1
        to = self.session
        observed, self.observed = self.observed, []
        unanswered, self.unanswered = self.unanswered, []
        key = ("step", unanswered[0]["uuid"]) if unanswered else ("step", uuid, "reply")
        seen = observed[0] if len(observed) == 1 else observed or None
        where = observed_where([u["uuid"] for u in unanswered], [parse_time(u["timestamp"]) for u in unanswered])
        to.add(StepStart(step=self.step, observation=seen, source_time=when, extra=where), *key)
        usage = obj(event.get("usageMetadata"))
        parts = dicts(message.get("parts"))
        answer = next(iter(_chat(message)), {"role": "assistant", "content": None})
        call = to.add(
            LLMCall(
                step=self.step,
                source_time=when,
                origin="transcript",
                dialect="openai.chat",
                model=text(event.get("model")),
                request={"messages": Prefix(self.history)},
                response=answer,
                reasoning=answer.get("reasoning_content"),
                usage=usage or None,
                prompt_tokens=integer(usage.get("promptTokenCount")),
                completion_tokens=integer(usage.get("candidatesTokenCount")),
                extra={"uuid": uuid, "parts": items(message.get("parts")), **without(event, *_COMMON, "model")},
            ),
            *("reply", uuid),
        )
        for index, asked in enumerate(obj(p["functionCall"]) for p in parts if "functionCall" in p):
            id = text(asked.get("id"))
            action = to.add(
                Action(
                    step=self.step,
                    source_time=when,
                    name=str(asked.get("name") or ""),
                    arguments=asked.get("args"),
                    llm_call=call.id,
                    tool_call_id=id,
                ),
                *("action", id or uuid, *(() if id else (index,))),
            )
            self.actions[id or f"{uuid}-{index}"] = action
        self.history.append(answer)

    def _result(self, event: dict[str, Any], message: dict[str, Any], uuid: str, when: int | None) -> None:
        about = obj(event.get("toolCallResult"))
        for sent in _chat(message):
            self.history.append(sent)
            if sent["role"] == "user":  # what stands beside the results
                self.observed.append(sent["content"])
                self.unanswered.append({**sent, "uuid": uuid, "timestamp": event.get("timestamp")})
                continue
            id = text(sent.get("tool_call_id")) or text(about.get("callId"))
            known = self.actions.get(id or "")
            if known is None:
                self.session.warn("tool results that no call in the file asked for")
                data = {"result": sent, **about}
                self.session.add(Note(name="result_without_call", data=data, source_time=when), "result", uuid)
                continue
            status, error = about.get("status"), about.get("error")
            ok = status == "success" if status in ("success", "error", "cancelled") else None
            ok = ok and succeeded(sent["content"])
            took = about.get("durationMs")
            stated = nanoseconds(took / 1000) if isinstance(took, int | float) and not isinstance(took, bool) else None
            passed = when - known.source_time if when is not None and known.source_time is not None else None
            self.actions[id or ""] = self.session.replace(
                known,
                result=sent["content"],
                ok=ok,
                error=error,
                duration=stated if stated is not None else passed if passed is not None and passed >= 0 else None,
                extra={"result_uuid": uuid, **({"toolCallResult": about} if about else {})},
            )


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it has no message."""
    lines = Lines(path)
    events: list[dict[str, Any]] = []
    known: set[str] = set()
    for _, value in lines:
        if isinstance(value, dict) and not (isinstance(value.get("uuid"), str) and value["uuid"] in known):
            events.append(value)
            known.add(str(value.get("uuid")))
    first = next((e for e in events if isinstance(e.get("message"), dict)), None)
    if first is None:
        raise NotBegun("a Qwen Code file without a message")
    started = parse_time(first.get("timestamp"))
    session = _identified(first.get("sessionId"), first)
    for problem in lines.problems:
        session.warn(problem)
    if lines.glued:
        session.warn("lines that held several objects", lines.glued)
    shared = next((n for n, e in enumerate(events) if "forkedFrom" not in e), len(events))  # a fork copies its parent's lines
    if shared == len(events):
        raise NotBegun("a fork of a Qwen Code session in which nobody has said anything yet")
    asked = (_texts(obj(e.get("message"))) for e in events[shared:] if e.get("type") == "user")
    task = next((without_files(t) for t in asked if t and not t.lstrip().startswith(_NOT_ASKED)), None)
    about = {k: first[k] for k in ("cwd", "gitBranch") if first.get(k) is not None}
    source = {"format": NAME, "path": path.name, "session": first.get("sessionId"), **about, "interactive": True}
    before = _Reader(Session(NAME))
    for event in events[:shared]:
        before.take(event)
    fork: Fork | None = None
    if shared:
        of = obj(first.get("forkedFrom")).get("sessionId")
        fork = Fork(trajectory=_identified(of, first).id, step=before.step + 1, reason="forked")
    start = Start(
        task=task,
        agent="qwen-code",
        agent_version=text(first.get("version")),
        source_time=started,
        fork=fork,
        metadata={"source": source},
    )
    session.add(start, "start")
    reader = _Reader(session)
    reader.history, reader.spots, reader.step = before.history, before.spots, before.step
    for event in events[shared:]:
        reader.take(event)
    reader.leave()
    yield session


def _identified(session: Any, first: dict[str, Any]) -> Session:
    """What a session is known by: its id, and its first message."""
    name = text(first.get("uuid")) or content_hash(first)
    return Session(NAME, session, name, started=parse_time(first.get("timestamp")))


def _texts(content: dict[str, Any]) -> str | None:
    found = [p["text"] for p in dicts(content.get("parts")) if isinstance(p.get("text"), str) and not p.get("thought")]
    return "\n".join(found) or None


def _chat(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A Gemini content as messages in chat shape: one, or one for each function response in it."""
    parts = dicts(content.get("parts"))
    results: list[dict[str, Any]] = []
    for response in (obj(p["functionResponse"]) for p in parts if "functionResponse" in p):
        given = response.get("response")
        sent = obj(given).get("output", obj(given).get("error", given))
        results.append({"role": "tool", "tool_call_id": response.get("id"), "content": sent})
    if results:
        beside = [p for p in parts if "functionResponse" not in p]
        return [*results, *_chat({"role": "user", "parts": beside})]
    if content.get("role") == "model":
        answer: dict[str, Any] = {"role": "assistant", "content": _texts(content)}
        asked = [
            {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("args")}}
            for c in (obj(p["functionCall"]) for p in parts if "functionCall" in p)
        ]
        if asked:
            answer["tool_calls"] = asked
        thoughts = [p["text"] for p in parts if p.get("thought") and isinstance(p.get("text"), str)]
        if any(thoughts):  # they are sent again
            answer["reasoning_content"] = "\n\n".join(thoughts)
        return [answer]
    plain = all(set(p) <= {"text"} for p in parts)
    return [{"role": "user", "content": _texts(content) if plain else parts}] if parts else []
