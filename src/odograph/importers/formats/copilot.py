"""GitHub Copilot's command line: `~/.copilot/session-state/<id>/events.jsonl`, events of `type`, `data`, `id`, `timestamp`,
`parentId`.

An `assistant.message` is a call with the tools that it asks for; `tool.execution_complete` has a tool's outcome. What a call
used stands behind it in `assistant.usage`, or, since version 1.0.100, before it in `session.usage_record`. Events of a
sub-agent have its `agentId`, which `subagent.started` names beside the tool call that started it; those of older versions name
this tool call alone.

Source: github/copilot-sdk, the types of session events; a session that version 1.0.102 wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...shape import added, arguments, content_text, dicts, integer, nanoseconds, number, obj, text, without
from ...types import Action, LLMCall, Note, Start
from .. import peek
from ..session import Lines, NotBegun, Session, parse_time, unrepeated
from ..transcript import Transcript

NAME = "copilot"
#: The exit code of a command, behind its output. The program calls a command that failed a success.
_CODE = re.compile(r"<exited with exit code (-?\d+)>\s*\Z")

#: What the program puts in the place of a result that a person did not wait for, and of what a compaction took away.
_INTERRUPTED = "The execution of this tool, or a previous tool was interrupted."
_COMPACTED = (
    "The conversation history has been summarized to free up context.\n\nYou were originally given instructions from a user over "
    "one or more turns. Here were the user messages:\n{said}\nHere is a summary of the prior context:\n"
    "<summary>\n{summary}\n</summary>\n"
)


def recognise(path: Path, head: bytes) -> bool:
    """A first event `session.start` or `session.resume` with data, or one of its kinds of events with an id and a parent."""
    try:
        first = obj(peek.value(head.split(b"\n", 1)[0]))
    except InvalidInput:
        return False
    kind = first.get("type")
    return (
        isinstance(kind, str)
        and isinstance(first.get("data"), dict)
        and kind.startswith(("session.start", "session.resume", "user.message", "session.info"))
    )


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where nobody has said anything."""
    lines = Lines(path)
    events = [v for v in unrepeated(v for _, v in lines) if isinstance(v.get("type"), str)]
    if not any(e["type"] in ("user.message", "assistant.message") for e in events):
        raise NotBegun("a Copilot session without a message")
    about = next((obj(e.get("data")) for e in events if e["type"] == "session.start"), {})
    session = Session(NAME, text(about.get("sessionId")) or path.parent.name)
    for problem in lines.problems:
        session.warn(problem)
    task = next((text(obj(e.get("data")).get("content")) for e in events if e["type"] == "user.message"), None)
    started = parse_time(about.get("startTime")) or parse_time(events[0].get("timestamp"))
    model = text(about.get("selectedModel"))
    source = {"format": NAME, "path": path.name, **about, "interactive": True}
    start = Start(
        task=task,
        agent="copilot",
        agent_version=text(about.get("copilotVersion")),
        model=model,
        metadata={"source": source},
        source_time=started,
    )
    session.add(start, "start")
    reader = _Reader(session, model)
    for event in events:
        reader.take(event, obj(event.get("data")), parse_time(event.get("timestamp")))
    for transcript in reader.transcripts.values():
        transcript.close()
    yield session


class _Reader:
    def __init__(self, session: Session, model: str | None) -> None:
        self.session = session
        self.model = model
        #: The conversations: the session's own under None, each sub-agent's under its id.
        self.transcripts: dict[str | None, Transcript] = {None: Transcript(session, model=model)}
        #: Of each sub-agent, by its id: its kind, and the tool call that started it; and the other way round.
        self.started: dict[str, tuple[str | None, str | None]] = {}
        self.by_call: dict[str, str] = {}
        self.actions: dict[str, Action] = {}
        #: The last call of each conversation, which usage that comes later is of.
        self.calls: dict[str | None, LLMCall] = {}
        #: What was used by calls whose answers come next, by the id of the call.
        self.used: dict[Any, dict[str, Any]] = {}
        self.began: dict[str, int] = {}
        #: What a person said in the session's own conversation, which a compaction leaves; and images that came with it.
        self.said: list[str] = []
        self.images: dict[str | None, dict[str, Any]] = {}
        #: How much was said before each event, and the last message: what a rewind to the event leaves.
        self.before: dict[str, tuple[Any, ...]] = {}

    def whose(self, event: dict[str, Any], data: dict[str, Any]) -> Transcript:
        """The conversation that an event is of."""
        call = text(data.get("parentToolCallId"))
        id = text(event.get("agentId")) or (self.by_call.get(call, call) if call else None)
        if id is None or id in self.transcripts:
            return self.transcripts[id]
        kind, by = self.started.get(id, (None, call))
        name = f"{kind or 'agent'}-{id[:8]}"
        if any(t.agent == name for t in self.transcripts.values()):
            name = f"{kind or 'agent'}-{id}"
        found = self.transcripts[id] = Transcript(self.session, model=self.model, agent=name)
        self.session.known(name, id)
        starter = self.actions.get(by or "")
        self.session.within(name, starter.id if starter else None)
        return found

    def take(self, event: dict[str, Any], data: dict[str, Any], when: int | None) -> None:
        kind = str(event["type"])
        if kind == "subagent.started":
            call = text(data.get("toolCallId"))
            id = text(event.get("agentId")) or call
            if id is not None:
                self.started[id] = text(data.get("agentName")), call
            if id is not None and call is not None:
                self.by_call[call] = id
        to = self.whose(event, data)
        self.before[text(event.get("id")) or ""] = len(self.said), *(to.history[-1:] or [None])
        match kind:
            case "session.start":
                pass
            case "session.resume":  # what was thought before is not sent any more
                to.history = [without(m, "reasoning_content") for m in to.history]
                self._note(to, kind, event, data, when)
            case "system.message":
                self._system(to, {"role": "system", "content": data.get("content")})
            case "user.message":
                told = data.get("transformedContent")
                content = told if isinstance(told, str) and told else data.get("content")
                if to.agent is None and isinstance(data.get("content"), str):
                    self.said.append(data["content"])
                content = self._with_images(content, dicts(data.get("attachments")))
                to.saw({"role": "user", "content": content}, id=text(event.get("id")), when=when)
            case "assistant.message":
                self._answer(to, event, data, when)
            case "assistant.usage":
                if (last := self.calls.get(to.agent)) is not None:
                    self.calls[to.agent] = self.session.replace(last, **_figures(data, last.model))
            case "session.usage_record":
                usage = obj(data.get("usage"))
                self.used[text(usage.get("apiCallId"))] = usage
                self._note(to, kind, event, data, when)
            case "tool.execution_start":
                self._started(to, data, when)
            case "tool.execution_complete":
                self._done(to, data, when)
            case "session.model_change":
                to.model = text(data.get("newModel")) or to.model
                self._note(to, kind, event, data, when)
            case "session.compaction_complete":
                summary = text(data.get("summaryContent"))
                if data.get("success") is not False and summary:
                    left = _COMPACTED.format(
                        said="".join(f"<user_message>\n{t}\n</user_message>\n" for t in self.said), summary=summary
                    )
                    to.history = [*_system_of(to.history), {"role": "user", "content": left}]
                self._note(to, kind, event, data, when)
            case "session.binary_asset":
                self.images[text(data.get("assetId"))] = data
                self._note(to, kind, event, data, when)
            case "abort":
                _interrupted(to)
                self._note(to, kind, event, data, when)
            case "session.context_cleared":
                to.history = _system_of(to.history)
                self.said = []
                self._note(to, kind, event, data, when)
            case "session.snapshot_rewind":  # the event that it names and all behind it are taken back
                heard, *before = self.before.get(text(data.get("upToEventId")) or "", (len(self.said),))
                del self.said[heard:]
                kept = next((n for n, m in enumerate(to.history) if any(m is one for one in before)), None)
                if before:
                    to.history = to.history[: kept + 1] if kept is not None else _system_of(to.history)
                self._note(to, kind, event, data, when)
            case _ if kind.endswith(("_delta", "turn_start", "turn_end", "_progress", "partial_result", "session.idle")):
                pass
            case _:
                self._note(to, kind, event, data, when)

    def _with_images(self, content: Any, attachments: list[dict[str, Any]]) -> Any:
        """What was said, with the images that were attached, where the file has them."""
        parts: list[dict[str, Any]] = []
        for one in attachments:
            image = self.images.get(text(one.get("assetId")), {}) if one.get("assetId") else {}
            if image.get("type") == "image" and isinstance(image.get("data"), str):
                url = f"data:{image.get('mimeType')};base64,{image['data']}"
                parts.append({"type": "text", "text": f"Image file at path {one.get('path')}"})
                parts.append({"type": "image_url", "image_url": {"url": url}})
        return [{"type": "text", "text": content}, *parts] if parts else content

    def _note(self, to: Transcript, kind: str, event: dict[str, Any], data: dict[str, Any], when: int | None) -> None:
        note = Note(name=kind, data=data, agent=to.agent, source_time=when)
        self.session.add(note, "event", text(event.get("id")) or content_hash(event))

    def _system(self, to: Transcript, message: dict[str, Any]) -> None:
        """A system prompt stands first, in place of the one before; what came after it in the file stays behind it."""
        history = to.history
        if message in history[:1]:
            return
        rest = [m for m in history if obj(m).get("role") != "system"]
        to.saw(message, observed=False)
        to.history = [message, *rest]

    def _answer(self, to: Transcript, event: dict[str, Any], data: dict[str, Any], when: int | None) -> None:
        asked = [
            {"id": r.get("toolCallId"), "type": "function", "function": {"name": r.get("name"), "arguments": r.get("arguments")}}
            for r in dicts(data.get("toolRequests"))
        ]
        answer = {"role": "assistant", "content": data.get("content") or None, **({"tool_calls": asked} if asked else {})}
        thoughts = text(data.get("reasoningText"))
        if not answer["content"] and not asked and not thoughts:
            return
        if thoughts:  # they are sent again
            answer["reasoning_content"] = thoughts
        more = without(data, "content", "toolRequests", "reasoningText", "outputTokens")
        used = self.used.pop(text(data.get("apiCallId")), {})
        model = text(data.get("model")) or to.model
        figures: dict[str, Any] = {"model": model, "completion_tokens": integer(data.get("outputTokens"))}
        if used:
            figures = {**_figures(used, model), "duration": nanoseconds(_seconds(used.get("duration")))}
        self.calls[to.agent] = to.replied(
            answer,
            when=when,
            extra={"id": event.get("id"), **more},
            finish_reason=text(used.get("finishReason")),
            **figures,
        )
        for one in asked:
            id = text(one["id"])
            found = to.action(id)
            if found is not None and id:
                self.actions[id] = found

    def _started(self, to: Transcript, data: dict[str, Any], when: int | None) -> None:
        id = text(data.get("toolCallId"))
        if id and id not in self.actions:
            name = str(data.get("toolName") or "")
            self.actions[id] = to.acted(name, arguments(data.get("arguments")), id=id, when=when)
        if id and when is not None:
            self.began[id] = when

    def _done(self, to: Transcript, data: dict[str, Any], when: int | None) -> None:
        id = text(data.get("toolCallId")) or ""
        action = self.actions.get(id)
        result, error = obj(data.get("result")), data.get("error")
        told = text(result.get("content")) or content_text(result.get("contents"))
        if action is None:
            self.session.warn("tool results that no call in the file asked for")
            return
        began = self.began.get(id)
        took = when - began if when is not None and began is not None and when >= began else None
        extra = without(data, "toolCallId", "success", "result", "error") | (
            {"shown": result["detailedContent"]} if "detailedContent" in result else {}
        )
        success = data.get("success") if isinstance(data.get("success"), bool) else None
        written = _CODE.search(told or "")
        code = integer(obj(data.get("shellExecution")).get("exitCode", int(written[1]) if written else None))
        success = code == 0 and success is not False if code is not None else success
        self.session.replace(action, result=told, ok=success, error=error, started=began, duration=took, extra=extra or None)
        content = told if told is not None else text(obj(error).get("message")) or error
        to.saw({"role": "tool", "tool_call_id": id, "content": content})
        _in_order(to.history)


def _asked(history: list[Any]) -> tuple[int, list[Any]]:
    """Where the results of the last answer's tools begin, and the ids of these tools' calls."""
    start = len(history)
    while start and obj(history[start - 1]).get("role") == "tool":
        start -= 1
    return start, [c.get("id") for c in dicts(obj(history[start - 1]).get("tool_calls"))] if start else []


def _in_order(history: list[Any]) -> None:
    """Results are sent in the order in which the tools were asked for, whatever ended first. None of them was sent yet."""
    start, ids = _asked(history)
    place = {id: n for n, id in enumerate(ids)}
    history[start:] = sorted(history[start:], key=lambda m: place.get(m["tool_call_id"], len(ids)))


def _interrupted(to: Transcript) -> None:
    """A person stopped the tools that have no result: the program puts a sentence in the place of their results."""
    start, ids = _asked(to.history)
    given = [m["tool_call_id"] for m in to.history[start:]]
    for id in ids:
        if id not in given:
            to.saw({"role": "tool", "tool_call_id": id, "content": _INTERRUPTED}, noted=True)
    _in_order(to.history)


def _system_of(history: list[Any]) -> list[Any]:
    return [m for m in history[:1] if obj(m).get("role") == "system"]


def _figures(usage: dict[str, Any], model: str | None) -> dict[str, Any]:
    """What a call used; input tokens have the cached ones in them."""
    return {
        "usage": usage,
        "model": text(usage.get("model")) or model,
        "prompt_tokens": added(integer(usage.get("inputTokens"))),
        "completion_tokens": integer(usage.get("outputTokens")),
    }


def _seconds(milliseconds: Any) -> float | None:
    found = number(milliseconds)
    return None if found is None else found / 1000
