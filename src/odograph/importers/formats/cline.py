"""Cline, Roo Code and Kilo Code: a task's folder with `api_conversation_history.json` (messages of Anthropic's shape) and,
beside it, `ui_messages.json`, whose `api_req_started` entries have each request's tokens and cost.

Both files are of one task: the history is the session, and the other file alone is none. What an answer of an older version asks
for stands in its text as XML (`cline_tools.py`). The history keeps what is no longer sent: Roo marks what a condensation
(`condenseParent`) or a truncation (`truncationParent`) left out, and Cline shows which part of the file was
(`conversationHistoryDeletedRange`). Roo's `history_item.json` names the task that started this one. Versions of Roo of February
2026 wrote `{"version": 2, "messages": [...]}`, with messages of Vercel's AI SDK.

Source: cline/cline and RooCodeInc/Roo-Code, src/core: task, condense, context-management, task-persistence.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash, encode, loads
from ...errors import InvalidInput
from ...shape import added, content_text, dicts, integer, items, number, obj, parsed, text, without
from ...types import Action, Fork, Note, Start
from .. import blocks
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript
from .cline_tools import calls_in, result_in, went_well

NAME = "cline"
_HISTORY, _SHOWN, _ABOUT = "api_conversation_history.json", "ui_messages.json", "history_item.json"
_SHOWN_OLDER = "claude_messages.json"
_MODEL = re.compile(r"<model>([^<]+)</model>")
_SUB_TASK = re.compile(r"Subtask (\S+) completed\.")
#: Where the extensions keep their tasks.
_AGENTS = {"saoudrizwan.claude-dev": "cline", "rooveterinaryinc.roo-cline": "roo-code", "kilocode.kilo-code": "kilo-code"}


def recognise(path: Path, head: bytes) -> bool:
    """The history of a task, by its name and as a list of messages or an object that holds one; or the folder of a task."""
    if path.is_dir():
        return (path / _HISTORY).is_file()
    start = head.lstrip()
    return path.name == _HISTORY and (start.startswith(b"[") or (start.startswith(b"{") and b'"messages"' in start))


def read(path: Path) -> Iterator[Session]:
    """The session of a task. Raises NotBegun where it has no message."""
    folder = path if path.is_dir() else path.parent
    file = folder / _HISTORY if path.is_dir() else path
    whole = loads(file.read_bytes())
    messages = dicts(whole) if isinstance(whole, list) else [_of_parts(m) for m in dicts(obj(whole).get("messages"))]
    if not messages:
        raise NotBegun("a task without a message")
    about = obj(_json(folder / _ABOUT))
    id = folder.name if folder.name.replace("-", "").isalnum() and any(c.isdigit() for c in folder.name) else None
    session = Session(NAME, id or content_hash(messages[0]))
    first = next((blocks.told(m.get("content")) for m in messages if m.get("role") == "user"), None)
    task = next((t for mark in ("task", "user_message") if first and (t := _inside(first, mark))), first)
    began = parse_time(messages[0].get("ts")) or (parse_time(int(folder.name)) if folder.name.isdecimal() else None)
    agent = next((name for part, name in _AGENTS.items() if part in folder.parts), "cline")
    models = (text(obj(m.get("modelInfo")).get("modelId")) or _model(m) for m in messages)
    model = next((m for m in models if m), None)
    kept = {
        k: about[k] for k in ("mode", "workspace", "status", "rootTaskId", "parentTaskId", "number") if about.get(k) is not None
    }
    source = {"format": NAME, "path": file.name, "session": id, **kept, "interactive": True}
    parent = text(about.get("parentTaskId"))
    start = Start(
        task=task or first,
        agent=agent,
        model=model,
        metadata={"source": source},
        source_time=began,
        fork=Fork(trajectory=Session(NAME, parent).id, reason="sub-agent") if parent else None,
    )
    session.add(start, "start")
    reader = _Reader(
        Transcript(session, model=model, dialect="anthropic.messages"),
        dicts(_json(folder / _SHOWN) or _json(folder / _SHOWN_OLDER)),
    )
    for message in messages:
        reader.take(message)
    reader.close()
    yield session


def _of_parts(message: dict[str, Any]) -> dict[str, Any]:
    """A message of Vercel's AI SDK in Anthropic's shape, as the other versions keep it."""
    parts = [_block(p) if isinstance(p, dict) else p for p in items(message.get("content"))]
    role = "user" if message.get("role") == "tool" else message.get("role")
    return {**message, "role": role, **({"content": parts} if parts else {})}


def _block(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "tool-call":
        return {"type": "tool_use", "id": part.get("toolCallId"), "name": part.get("toolName"), "input": part.get("input")}
    if part.get("type") == "tool-result":
        given = part.get("output")
        told = obj(given).get("value", given)
        content = told if isinstance(told, str | list) else encode(told).decode()
        failed = isinstance(told, str) and told.lstrip().startswith("[ERROR]")  # the program's own mark
        result = {"type": "tool_result", "tool_use_id": part.get("toolCallId"), "content": content}
        return {**result, "is_error": True} if failed else result
    signature = obj(obj(part.get("providerOptions")).get("anthropic")).get("signature")
    if part.get("type") == "reasoning" and signature is not None:
        return {"type": "thinking", "thinking": part.get("text"), "signature": signature}
    return part


def _json(path: Path) -> Any:
    try:
        return loads(path.read_bytes())
    except (OSError, InvalidInput):  # not there, or written at this moment
        return None


def _inside(told: str, mark: str) -> str:
    """What stands between marks of the program."""
    return told.partition(f"<{mark}>")[2].partition(f"</{mark}>")[0].strip()


def _model(message: dict[str, Any]) -> str | None:
    """The model that the details of the environment name."""
    texts = (
        b["text"]
        for b in dicts(message.get("content"))
        if isinstance(b.get("text"), str) and "<environment_details>" in b["text"]
    )
    return next((found[1] for t in texts if (found := _MODEL.search(t))), None) if message.get("role") == "user" else None


class _Kept(NamedTuple):
    """A message of the history, where it stands in the file, and as it is sent."""

    place: int
    told: dict[str, Any]
    sent: dict[str, Any]


class _Reader:
    """The messages of a task, each reply with the history that was sent for it."""

    def __init__(self, transcript: Transcript, shown: list[dict[str, Any]]) -> None:
        self.transcript = transcript
        self.kept: list[_Kept] = []
        self.at = -1
        #: What people were shown of the requests, in order: when, and their figures.
        self.requests = deque(_requests(shown))
        #: When a truncation came, by its id.
        self.truncated = {obj(e.get("contextTruncation")).get("truncationId"): parse_time(e.get("ts")) for e in shown}
        #: Markers of truncations that came later than what stands behind them: each with its place.
        self.markers: list[tuple[int | None, int, dict[str, Any]]] = []
        #: From when on which part of the file was left out, by Cline's account.
        self.ranges = deque((parse_time(e.get("ts")), _range(e)) for e in shown if _range(e) is not None)
        self.left_out: tuple[int, int] | None = None
        #: A thought that stands before its answer.
        self.thought: dict[str, Any] = {}
        #: The tools that the last answer asked for in its text, and that have no result yet.
        self.asked: list[Action] = []

    def take(self, message: dict[str, Any]) -> None:
        self.at += 1
        when = parse_time(message.get("ts"))
        sent = {"role": text(message.get("role")) or "user", "content": message.get("content")}
        if message.get("type") == "reasoning":
            self.thought = message
            if message.get("encrypted_content"):
                self._keep(message, {k: message[k] for k in ("type", "id", "summary", "encrypted_content") if k in message})
        elif message.get("isTruncationMarker"):
            found = self.truncated.get(message.get("truncationId"))
            self.markers.append((found, len(self.kept), message))
        elif message.get("isSummary"):
            self._summary(message, sent, when)
        elif sent["role"] != "assistant" or _is_program(sent["content"]):
            self.transcript.model = _model(message) or self.transcript.model
            if sent["role"] == "assistant":
                self.transcript.saw(sent, observed=False, when=when)
            else:
                self._results(message)
                blocks.add(self.transcript, sent, when=when)
                self._outcomes(sent["content"])
            self._keep(message, self.transcript.history.pop())
        else:
            self._reply(message, sent, when)

    def close(self) -> None:
        for entry in self.requests:
            self._unanswered(entry)
        self.transcript.close()

    def _keep(self, message: dict[str, Any], sent: dict[str, Any]) -> None:
        self.kept.append(_Kept(self.at, message, sent))
        self.transcript.history.append(sent)

    def _set(self, kept: list[_Kept]) -> None:
        self.kept = kept
        self.transcript.history = [one.sent for one in kept]

    def _summary(self, message: dict[str, Any], sent: dict[str, Any], when: int | None) -> None:
        """A condensation: what it stands for is no longer sent."""
        id = message.get("condenseId")
        self._set([one for one in self.kept if id is None or one.told.get("condenseParent") != id])
        self.markers = []
        self.transcript.saw(sent, observed=False, when=when)
        self._keep(message, self.transcript.history.pop())
        note = Note(name="condense", data={"summary": content_text(sent["content"])}, source_time=when)
        self.transcript.session.add(note, "condense", id or self.at)

    def _effective(self, when: int | None) -> None:
        """Leaves out of the history what was left out of it by a time."""
        for marker in list(self.markers):
            came, place, message = marker
            if came is None or when is None or came <= when:
                self.markers.remove(marker)
                id = message.get("truncationId")
                sent = _Kept(-1, message, {"role": "user", "content": message.get("content")})
                kept = [one for one in self.kept[:place] if one.told.get("truncationParent") != id]
                self._set([*kept, sent, *(one for one in self.kept[place:] if one.told.get("truncationParent") != id)])
        while self.ranges and (when is None or (self.ranges[0][0] or 0) <= when):
            self.left_out = self.ranges.popleft()[1]
        if self.left_out is not None:
            first, last = self.left_out
            if any(first <= one.place <= last for one in self.kept):
                kept = [one for one in self.kept if not first <= one.place <= last]
                self._set([_without_results(one) if one.place == last + 1 else one for one in kept])

    def _results(self, message: dict[str, Any]) -> None:
        """A sub-task's id stands in the result of the call that started it."""
        for block in dicts(message.get("content")):
            told = _SUB_TASK.match(str(block.get("content"))) if block.get("type") == "tool_result" else None
            action = self.transcript.action(text(block.get("tool_use_id"))) if told else None
            if told and action is not None and action.name == "new_task":
                self.transcript.result(action.tool_call_id, extra={"trajectory": Session(NAME, told[1]).id})

    def _outcomes(self, content: Any) -> None:
        """What came of tools: of those that were asked for in a text, and how each went, where its text says so."""
        for action in self.asked:
            if (result := result_in(content, action.name)) is not None:
                self.transcript.session.replace(action, result=result, ok=went_well(result))
        self.asked = []
        for block in dicts(content):
            known = self.transcript.action(text(block.get("tool_use_id"))) if block.get("type") == "tool_result" else None
            if known is not None and not block.get("is_error") and (ok := went_well(block.get("content"))) is not None:
                self.transcript.result(known.tool_call_id, ok=ok)

    def _reply(self, message: dict[str, Any], sent: dict[str, Any], when: int | None) -> None:
        self._effective(when)
        figures = obj(message.get("metrics")) or self._request(when)
        thought, self.thought = self.thought, {}
        plain = [b for b in dicts(sent["content"]) if b.get("type") == "reasoning"]
        thoughts = [t for b in [thought, *plain] if (t := text(b.get("text")) or content_text(b.get("summary")))]
        if beside := text(message.get("reasoning_content")):  # what some servers want to be sent again
            thoughts.append(beside)
            sent = {**sent, "reasoning_content": beside}
        more = {k: message[k] for k in ("id", "reasoning_details") if message.get(k)}
        about = _figures(figures, obj(message.get("modelInfo")))
        about = {"model": self.transcript.model, "reasoning": "\n\n".join(thoughts) or None, "extra": more or None, **about}
        call = blocks.add(self.transcript, sent, when=when, **about)
        self.transcript.history.pop()
        if not any(b.get("type") == "tool_use" for b in dicts(sent["content"])):
            self.asked = [self.transcript.acted(name, given, call=call, when=when) for name, given in calls_in(sent["content"])]
        if plain and not any(b.get("encrypted_content") for b in plain):  # kept for people: it is not sent again
            rest = [b for b in items(sent["content"]) if not (isinstance(b, dict) and b.get("type") == "reasoning")]
            only = rest[0].get("text") if len(rest) == 1 and obj(rest[0]).get("type") == "text" else None
            sent = {**sent, "content": rest if only is None else only}
        if message.get("reasoning_details"):
            sent = {**sent, "reasoning_details": message["reasoning_details"]}
        self._keep(message, sent)

    def _request(self, when: int | None) -> dict[str, Any]:
        """The figures of the request that led to a reply: the last one before it. Those before that had no reply."""
        found: tuple[int | None, dict[str, Any]] = (None, {})
        while self.requests and (when is None or (self.requests[0][0] or 0) <= when):
            if found[1]:
                self._unanswered(found)
            found = self.requests.popleft()
            if when is None or found[0] is None:
                break
        return found[1]

    def _unanswered(self, entry: tuple[int | None, dict[str, Any]]) -> None:
        came, figures = entry
        note = Note(name="api_req_failed", data=figures, source_time=came)
        self.transcript.session.add(note, "request", content_hash(figures))


def _range(entry: dict[str, Any]) -> tuple[int, int] | None:
    ends = [integer(n) for n in items(entry.get("conversationHistoryDeletedRange"))]
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def _without_results(one: _Kept) -> _Kept:
    """The first message behind what was left out, without results whose calls were."""
    content = one.sent.get("content")
    if one.sent.get("role") != "user" or not isinstance(content, list):
        return one
    return one._replace(sent={**one.sent, "content": [b for b in content if obj(b).get("type") != "tool_result"]})


def _is_program(content: Any) -> bool:
    """Whether the program wrote an answer, because none came."""
    return (content_text(content) or "") == "Failure: I did not provide a response."


def _figures(figures: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    tokens = obj(figures.get("tokens")) or figures
    sent, *cached = [
        integer(tokens.get(a, tokens.get(b)))
        for a, b in (("tokensIn", "prompt"), ("cacheWrites", "cacheWrites"), ("cacheReads", "cached"))
    ]
    # Roo counts cached tokens in; for Anthropic's models it did not before late 2025
    whole = "apiProtocol" in figures and (figures["apiProtocol"] == "openai" or (sent or 0) >= (added(*cached) or 0))
    about: dict[str, Any] = {
        "prompt_tokens": sent if whole else added(sent, *cached),
        "completion_tokens": integer(tokens.get("tokensOut", tokens.get("completion"))),
        "cost": number(figures.get("cost")),
        "usage": figures or None,
    }
    return about | ({"model": text(model.get("modelId"))} if text(model.get("modelId")) else {})


def _requests(shown: list[dict[str, Any]]) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """When each request was sent, and its figures; those without any are still under way."""
    for entry in shown:
        if entry.get("say") == "api_req_started":
            told = obj(parsed(entry.get("text")))
            if told.keys() & {"tokensOut", "cancelReason", "streamingFailedMessage"}:
                yield parse_time(entry.get("ts")), without(told, "request")
