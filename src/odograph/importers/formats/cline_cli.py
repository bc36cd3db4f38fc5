"""Sessions of Cline's command line: a folder with `<id>.messages.json`, what was said, and `<id>.json`, how the session stands.

A sub-agent has a file of its own in the folder, `agent_*.messages.json`; the call that started it has the same task. What a
compaction leaves stands in `<id>.compaction.json`, with the count of messages that it is sent in place of.

Source: a session that version 3.0.65 wrote; cline/cline, sdk/packages/core/src/session/models/session-compaction.ts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, encode, loads
from ...errors import InvalidInput
from ...shape import dicts, integer, number, obj, text, without
from ...types import Action, Note, Start
from .. import blocks
from ..peek import files_in, keys
from ..session import NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "cline-cli"
SURE = 60
_END = ".messages.json"
#: The mark around what a person typed; the model is sent the text inside.
_TYPED = re.compile(r"<user_input\b[^>]*>(.*?)</user_input>", re.DOTALL)


def recognise(path: Path, head: bytes) -> bool:
    """A folder with the messages of the session that it is named after, or a file of messages with an agent and a session."""
    if path.is_dir():
        return (path / f"{path.name}{_END}").is_file()
    root, found = keys(head)
    return root == "{" and {"agent", "sessionId", "origin", "messages"} <= found


def read(path: Path) -> Iterator[Session]:
    """The session of a folder, or of the folder that a file is in. Raises NotBegun where it has no message."""
    file = path / f"{path.name}{_END}" if path.is_dir() else path
    folder = file.parent
    if (main := folder / f"{folder.name}{_END}").is_file():
        file = main
    whole = obj(loads(file.read_bytes()))
    messages = dicts(whole.get("messages"))
    if not messages:
        raise NotBegun("a session of Cline without a message")
    id = text(whole.get("sessionId")) or content_hash(messages[0])
    session = Session(NAME, id)
    about = _json(folder / f"{file.name.removesuffix(_END)}.json")
    models = (text(obj(m.get("modelInfo")).get("id")) for m in messages)
    model = text(about.get("model")) or next((m for m in models if m), None)
    task = text(about.get("prompt")) or next((t for m in messages if m.get("role") == "user" and (t := _typed(m))), None)
    source = {"format": NAME, "path": file.name, "session": id, **without(about, "session_id", "prompt", "messages_path", "pid")}
    start = Start(
        task=task,
        agent="cline",
        agent_version=text(obj(whole.get("origin")).get("version")),
        model=model,
        metadata={"source": {**source, "interactive": True}},  # any session can be gone on with
        source_time=parse_time(about.get("started_at")) or parse_time(messages[0].get("ts")),
    )
    session.add(start, "start")
    others = [p for p in files_in(folder, f"*{_END}") if p != file] if file.parent.name == id else []
    agents = {p.name.removesuffix(_END): obj(_json(p)) for p in others}
    conversation = _Conversation(session, agents, model, None, _json(folder / f"{file.name.removesuffix(_END)}.compaction.json"))
    conversation.read(whole, text(whole.get("system_prompt")))
    for name in list(agents):  # what no call started
        conversation.start(name, None, None)
    yield session


class _Conversation:
    """What an agent was sent and said; `waiting` are the sub-agents whose call did not come yet."""

    def __init__(
        self,
        session: Session,
        waiting: dict[str, dict[str, Any]],
        model: str | None,
        agent: str | None,
        compacted: dict[str, Any] | None = None,
    ) -> None:
        self.session = session
        self.compacted = compacted or {}
        self.waiting = waiting
        self.transcript = Transcript(session, model=model, dialect="anthropic.messages", agent=agent, by_id=True)

    def start(self, name: str, by: Action | None, system: str | None) -> None:
        """What a sub-agent did, inside of the call that started it."""
        agent = name if name.startswith("agent") else f"agent_{name}"
        self.session.within(agent, by.id if by is not None else None)
        whole = self.waiting.pop(name)
        _Conversation(self.session, self.waiting, self.transcript.model, agent).read(
            whole, text(whole.get("system_prompt")) or system
        )

    def read(self, whole: dict[str, Any], system: str | None) -> None:
        transcript = self.transcript
        if system:
            transcript.saw({"role": "system", "content": system}, observed=False, noted=True)
        for place, message in enumerate(dicts(whole.get("messages"))):
            if place == integer(self.compacted.get("source_message_count")):
                self._compact(system)
            when, id, about = parse_time(message.get("ts")), text(message.get("id")), obj(message.get("metadata"))
            if about.get("displayOnly"):
                name = text(about.get("displayRole")) or "shown"
                note = Note(name=name, data=without(message, "role"), agent=transcript.agent, source_time=when)
                self.session.add(note, "shown", id or content_hash(message))
            elif message.get("role") != "assistant":
                blocks.add(transcript, _sent(message), id=id, when=when)
            else:
                call = blocks.add(transcript, message, id=id, when=when, **_figures(message))
                for asked in dicts(message.get("content")):
                    self._started(transcript.action(text(asked.get("id"))) if call is not None else None)
        transcript.close()

    def _compact(self, system: str | None) -> None:
        """From here on what a compaction left is sent, and what comes then."""
        system = text(self.compacted.get("system_prompt")) or system
        kept = [_sent({"role": m.get("role"), "content": m.get("content")}) for m in dicts(self.compacted.get("messages"))]
        self.transcript.history = [*([{"role": "system", "content": system}] if system else []), *kept]
        note = Note(name="compaction", data={"messages": kept}, source_time=parse_time(self.compacted.get("updated_at")))
        self.session.add(note, "compaction", self.compacted.get("source_message_count"))

    def _started(self, action: Action | None) -> None:
        """The sub-agent whose task a call holds."""
        given = obj(action.arguments) if action is not None else {}
        task = text(given.get("task"))
        found = next((n for n, w in self.waiting.items() if task and _task(w) == task), None)
        if found is not None:
            self.start(found, action, text(given.get("systemPrompt")))


def _figures(message: dict[str, Any]) -> dict[str, Any]:
    figures, model = obj(message.get("metrics")), text(obj(message.get("modelInfo")).get("id"))
    return {
        "prompt_tokens": integer(figures.get("inputTokens")),  # with the cached ones: the server said so (version 3.0.65)
        "completion_tokens": integer(figures.get("outputTokens")),
        "cost": number(figures.get("cost", figures.get("totalCost"))),
        "usage": figures or None,
        **({"model": model} if model else {}),
    }


def _sent(message: dict[str, Any]) -> dict[str, Any]:
    """A message as the model is sent it: what a person typed without its mark, and what a tool gave as text; with whether all
    parts of the tool succeeded."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": _TYPED.sub(r"\1", content)}
    parts: list[Any] = []
    for part in dicts(content):
        if isinstance(part.get("text"), str) and "<user_input" in part["text"]:
            part = {**part, "text": _TYPED.sub(r"\1", part["text"])}
        outcomes = [p["success"] for p in dicts(part.get("content")) if isinstance(p.get("success"), bool)]
        if outcomes and part.get("type") == "tool_result":
            part = {"is_error": not all(outcomes), **part, "content": encode(part["content"]).decode()}
        parts.append(part)
    return {**message, "content": parts}


def _typed(message: dict[str, Any]) -> str | None:
    said = blocks.told(_sent(message)["content"])
    return said.strip() if said else None


def _task(whole: dict[str, Any]) -> str | None:
    return next((t for m in dicts(whole.get("messages")) if m.get("role") == "user" and (t := _typed(m))), None)


def _json(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):  # not there, or written at this moment
        return {}
