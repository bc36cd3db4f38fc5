"""Goose: its database (`sessions.db`), `goose session export --format json`, and the older JSON lines.

A message has a role, when it was made, and contents: texts, thoughts, `toolRequest` with a call that may have failed to
parse, and `toolResponse`, which a user's message carries. Its metadata says whether the model and the person see it, and a
content's `audience` says whose it is: a tool's result may have one text for the model and another for the person.

One reply is kept as several messages: its text, its thoughts, and a message for each tool, with the tool's response behind
it. A compaction hides all messages before it from the model, and goes on with a summary, a word of the program in the model's
place, and the person's last message. Newer databases have a row in `usage_ledger` for each request.

Source: block/goose, crates/goose/src: conversation/message, session, context_mgmt, agents/agent/reply.rs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import content_text, dicts, integer, items, number, obj, parsed, text, without
from ...types import Fork, LLMCall, Note, Start
from ..databases import has_tables, rows
from ..peek import keys
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "goose"
_REQUESTS = ("toolRequest", "frontendToolRequest")
#: What a message may hold that no model is sent.
_NOTICES = ("systemNotification", "toolConfirmationRequest", "actionRequired", "error", "conversationCompacted")
_COMMAND = re.compile(r"/[\w:-]+(\s|$)")
#: The sessions with messages that other sessions have, too: a copy keeps the ids of its messages.
_COPIES = (
    "select distinct session_id from messages where message_id in "
    "(select message_id from messages where message_id is not null group by message_id having count(distinct session_id) > 1)"
)
_IDS = "select message_id from messages where session_id = ? order by id"
_SUB_AGENT = re.compile(r"Subagent task for: (\S+)")


def recognise(path: Path, head: bytes) -> bool:
    """A database with the tables and their columns, an export with a `conversation`, or lines that begin with a session's
    metadata."""
    if head.startswith(b"SQLite format 3\x00"):
        return has_tables(path, ("sessions", "messages")) and _is_ours(path)
    root, found = keys(head)
    if root != "{" or "working_dir" not in found:
        return False
    return bool(found & {"conversation", "total_tokens", "message_count", "accumulated_total_tokens"})


def _is_ours(path: Path) -> bool:
    with rows(path) as ask:
        columns, about = (
            {row["name"] for row in ask("select name from pragma_table_info(?)", t)} for t in ("messages", "sessions")
        )
    return {"session_id", "role", "content_json"} <= columns and {"id", "created_at"} <= about


def read(path: Path) -> Iterator[Session]:
    """A session per session of a database, or the one of a file. Raises NotBegun where none has a message."""
    with path.open("rb") as file:
        is_database = file.read(16).startswith(b"SQLite")
    made = 0
    for about, messages, problems in _of_database(path) if is_database else [_of_file(path)]:
        if len(messages) > obj(about.get("copied")).get("messages", 0):  # else nobody said anything in the copy
            made += 1
            session = _session(path, about, messages)
            for problem in problems:
                session.warn(problem)
            yield session
    if not made:
        raise NotBegun("a Goose file without a message")


_Found = tuple[dict[str, Any], list[dict[str, Any]], list[str]]


def _of_database(path: Path) -> Iterator[_Found]:
    with rows(path) as ask:
        columns = {row["name"] for row in ask("select name from pragma_table_info('messages')")}
        several = {row["session_id"] for row in ask(_COPIES)} if "message_id" in columns else set()
        kept = next(ask("select 1 from sqlite_master where type = 'table' and name = 'usage_ledger'"), None) is not None
        before: list[Any] = []
        for session in ask("select * from sessions order by created_at, id"):
            messages: list[dict[str, Any]] = []
            for row in ask("select * from messages where session_id = ? order by id", session["id"]):
                try:
                    content = loads(row.get("content_json") or "")
                except (InvalidInput, TypeError):
                    content = [{"type": "text", "text": row.get("content_json")}]
                messages.append(
                    {
                        "id": row.get("message_id"),
                        "role": row.get("role"),
                        "created": row.get("created_timestamp"),
                        "content": content,
                        "metadata": parsed(row.get("metadata_json")),
                    }
                )
            about = {k: v for k, v in session.items() if v is not None}
            if kept:
                about["ledger"] = list(ask("select * from usage_ledger where session_id = ? order by rowid", session["id"]))
            if messages and session["id"] in several:
                of: dict[int, Any] = {}  # the sessions that it may be a copy of, by how many messages they share
                for other in before:
                    ids = [row["message_id"] for row in ask(_IDS, other)]
                    of.setdefault(next((n for n, m in enumerate(messages) if ids[n : n + 1] != [m["id"]]), len(messages)), other)
                if shared := max(of, default=0):
                    about["copied"] = {"session": of[shared], "messages": shared}
                before.append(session["id"])
            yield about, messages, []


def _of_file(path: Path) -> _Found:
    try:
        whole = obj(loads(path.read_bytes()))
    except InvalidInput:
        whole = {}
    if "conversation" in whole:
        talk = whole["conversation"]
        return without(whole, "conversation"), dicts(talk if isinstance(talk, list) else obj(talk).get("messages")), []
    lines = Lines(path)
    values = [v for _, v in lines if isinstance(v, dict)]
    about = values[0] if values and "role" not in values[0] else {}
    return {"id": path.stem, **about}, [v for v in values if "role" in v], lines.problems


def _session(path: Path, about: dict[str, Any], messages: list[dict[str, Any]]) -> Session:
    session = Session(NAME, text(about.get("id")) or path.stem)
    copied = obj(about.get("copied"))
    shared = integer(copied.get("messages")) or 0
    asked = [
        t
        for m in messages[shared:]
        if m.get("role") == "user" and not _is_command(m) and (t := content_text(_for_model(m.get("content"))))
    ]
    started = parse_time(about.get("created_at")) or parse_time(messages[0].get("created"))
    model = text(obj(parsed(about.get("model_config_json", about.get("model_config")))).get("model_name"))
    source = {
        "format": NAME,
        "path": path.name,
        **without(about, "copied", "ledger"),
        "interactive": about.get("session_type") not in ("sub_agent", "scheduled"),
    }
    summed = {  # version 1.46 has the counts in objects
        **about,
        **{f"{key}{n}": v for key in ("accumulated_", "") for n, v in obj(about.get(f"{key}usage")).items()},
    }
    totals = {
        f"{name}_tokens": next(
            (n for key in ("accumulated_", "") if (n := integer(summed.get(f"{key}{kind}_tokens"))) is not None), None
        )
        for name, kind in (("prompt", "input"), ("completion", "output"))
    } | {"cost": number(about.get("accumulated_cost"))}
    if any(value is not None for value in totals.values()):
        source["totals"] = {k: v for k, v in totals.items() if v is not None}
    parent = _SUB_AGENT.fullmatch(text(about.get("name")) or text(about.get("description")) or "")
    before = _Reader(Transcript(Session(NAME), model=model, by_id=True), messages[:shared])  # what is another session's
    before.read()
    fork = Fork(trajectory=Session(NAME, parent[1]).id, reason="sub-agent") if parent else None
    if shared:
        fork = Fork(trajectory=Session(NAME, copied.get("session")).id, step=before.transcript.step + 1, reason="forked")
    start = Start(
        task=next(iter(asked), None),
        agent="goose",
        model=model,
        metadata={"source": source},
        source_time=started,
        fork=fork,
    )
    session.add(start, "start")
    reader = _Reader(Transcript(session, model=model, by_id=True), messages, shared)
    reader.transcript.history, reader.transcript.step = before.transcript.history, before.transcript.step
    reader.read()
    _priced(session, dicts(about.get("ledger")))
    return session


def _priced(session: Session, ledger: list[dict[str, Any]]) -> None:
    """What each request took and cost, where there are as many as calls. Its prompt tokens include cached ones."""
    calls = [record for record in session.records if isinstance(record, LLMCall)]
    paid = [row for row in ledger if not row.get("is_compaction")]
    if len(paid) != len(calls):
        if paid:
            session.warn("usage of requests whose calls are not told", len(paid))
        return
    for call, row in zip(calls, paid, strict=True):
        session.replace(
            call,
            model=text(row.get("model")) or call.model,
            usage={k: v for k, v in row.items() if v is not None and k not in ("id", "session_id")},
            prompt_tokens=integer(row.get("input_tokens")),
            completion_tokens=integer(row.get("output_tokens")),
            cost=number(row.get("cost")),
        )


def _is_hidden(message: dict[str, Any]) -> bool:
    """Whether people don't see a message: the program wrote it."""
    return obj(message.get("metadata")).get("userVisible") is False


def _is_unsent(message: dict[str, Any]) -> bool:
    """Whether the model does not see a message, now."""
    return obj(message.get("metadata")).get("agentVisible") is False


def _for_model(contents: Any) -> list[dict[str, Any]]:
    """The contents that are sent to the model: those that say so, and those that don't say whose they are."""
    return [c for c in dicts(contents) if (whose := _audience(c)) is None or "assistant" in whose]


def _audience(content: dict[str, Any]) -> list[Any] | None:
    """Whose a content is; None where it does not say so."""
    found = obj(content.get("annotations")).get("audience", content.get("audience"))
    return found if isinstance(found, list) else None


class _Reader:
    """The messages of a session, as the model was sent them."""

    def __init__(self, transcript: Transcript, messages: list[dict[str, Any]], start: int = 0) -> None:
        self.transcript = transcript
        self.messages = messages
        self.start = start
        #: The person's message that a compaction put behind its summary again.
        self._again: str | None = None

    def read(self) -> None:
        at = self.start
        while at < len(self.messages):
            message = self.messages[at]
            if self._is_summary(at):
                self._compacted(at)
                at += 2
            elif self._is_shown(at):
                data = {"role": message.get("role"), "content": message.get("content")}
                note = Note(name="shown", data=data, source_time=parse_time(message.get("created")))
                self.transcript.session.add(note, "shown", text(message.get("id")) or at)
                at += 1
            elif message.get("role") == "assistant":
                end = self._end_of_reply(at)
                self._reply(self.messages[at:end])
                at = end
            else:
                self._sent(message)
                at += 1
        self.transcript.close()

    def _is_summary(self, at: int) -> bool:
        """Whether a message is the summary of a compaction: the program wrote it and what stands behind it."""
        both = self.messages[at : at + 2]
        return [m.get("role") for m in both] == ["user", "assistant"] and all(_is_hidden(m) for m in both)

    def _is_shown(self, at: int) -> bool:
        """Whether a message was for people alone: a notice of the program, or a command and the answer to it. That the model does
        not see a message now does not tell it: a compaction hides all that stood before it."""
        message, before = self.messages[at], self.messages[at - 1] if at else {}
        contents = dicts(message.get("content"))
        if contents and all(c.get("type") in _NOTICES for c in contents):
            return True
        return _is_command(message) or (message.get("role") == "assistant" and _is_unsent(message) and _is_command(before))

    def _compacted(self, at: int) -> None:
        summary, program = self.messages[at : at + 2]
        said = [{"role": m.get("role"), "content": content_text(_for_model(m.get("content")))} for m in (summary, program)]
        note = Note(name="compaction", data={"summary": said[0]["content"]}, source_time=parse_time(summary.get("created")))
        self.transcript.session.add(note, "compaction", text(summary.get("id")) or at)
        self.transcript.history = list(said)
        again = self.messages[at + 2] if at + 2 < len(self.messages) else {}
        self._again = content_text(again.get("content")) if self._stood_before(again, at) else None

    def _stood_before(self, message: dict[str, Any], at: int) -> bool:
        """Whether a person's message is the last one before a compaction, whose copy stands behind the summary."""
        if message.get("role") != "user" or not (said := content_text(message.get("content"))):
            return False
        people = (content_text(m.get("content")) for m in reversed(self.messages[:at]) if m.get("role") == "user")
        return next((t for t in people if t), None) == said

    def _end_of_reply(self, at: int) -> int:
        """Where a reply ends. Its messages follow each other, but for the responses of its tools: behind one, a message is of the
        same reply if it repeats the reply's thoughts, or if its response was begun before the message with the first call was."""
        messages, end = self.messages, at + 1
        while end < len(messages) and messages[end].get("role") == "assistant" and not self._is_shown(end):
            end += 1
        thoughts = _thoughts(messages[at:end])
        asked = [m for m in messages[at:end] if _of(m, *_REQUESTS)]
        while asked:
            behind = end
            while behind < len(messages) and _of(messages[behind], "toolResponse"):
                behind += 1
            if behind == end or behind >= len(messages) or not (requests := _of(messages[behind], *_REQUESTS)):
                break
            response = obj(messages[behind + 1] if behind + 1 < len(messages) else None)
            answered = {c.get("id") for c in _of(response, "toolResponse")}
            begun, made = parse_time(response.get("created")), parse_time(asked[0].get("created"))
            early = begun is not None and made is not None and begun < made and any(c.get("id") in answered for c in requests)
            if not early and not (thoughts and _thoughts([messages[behind]]) == thoughts):
                break
            end = behind + 1
        return end

    def _reply(self, messages: list[dict[str, Any]]) -> None:
        transcript, first = self.transcript, messages[0]
        replies = [m for m in messages if m.get("role") == "assistant"]
        thoughts = _thoughts(replies)
        model = next((m for r in replies if (m := _model(r))), transcript.model)
        ids = [id for m in replies if (id := text(m.get("id")))]
        signed = [c for m in replies for c in _of(m, "thinking", "redactedThinking") if c.get("signature") or c.get("data")]
        transcript.replied(
            _answer(replies, thoughts),
            when=parse_time(first.get("created")),
            model=model,
            id=ids[0] if ids else None,
            reasoning="\n\n".join(thoughts) or None,
            extra=({"messages": ids} if ids else {}) | ({"thinking": signed} if signed else {}) or None,
        )
        transcript.history.pop()  # the call's own answer, which is sent as the messages that it is kept as
        run: list[dict[str, Any]] = []
        for message in [*messages, {}]:
            if message.get("role") == "assistant":
                run.append(message)
                continue
            if run:
                transcript.history.append(_answer(run, _thoughts(run)))
                run = []
            if message:
                self._sent(message)

    def _sent(self, message: dict[str, Any]) -> None:
        contents = _for_model(message.get("content"))
        for content in contents:
            if content.get("type") == "toolResponse":
                self._result(content)
        rest = [c for c in contents if c.get("type") not in ("toolResponse", *_NOTICES)]
        if not rest:
            return
        said = content_text(rest)
        again, self._again = self._again is not None and said == self._again, None
        only_text = all(c.get("type") == "text" for c in rest)
        self.transcript.saw(
            {"role": "user", "content": said if only_text else rest},
            observed=not again,
            noted=again,
            id=None if again else text(message.get("id")),
            when=parse_time(message.get("created")),
        )

    def _result(self, response: dict[str, Any]) -> None:
        transcript, given = self.transcript, obj(response.get("toolResult"))
        value = given.get("value")
        inner = value.get("content") if isinstance(value, dict) else value
        sent = _for_model(inner) if isinstance(inner, list) else inner
        failed = given.get("status") == "error" or obj(value).get("isError") is True
        error = given.get("error") if given.get("status") == "error" else None
        texts = all(c.get("type") == "text" for c in dicts(sent))
        told = (content_text(sent) if texts else None) if inner is not None else text(error)
        more = {k: v for k, v in obj(value).items() if k not in ("content", "isError") and v is not None}
        extra = {"shown": inner} if sent != inner else {}
        extra |= {"result": more} if more else {}
        id = text(response.get("id"))
        if not transcript.result(id, result=sent if told is None else told, ok=not failed, error=error, extra=extra or None):
            transcript.session.warn("tool results that no call in the file asked for")
        transcript.saw({"role": "tool", "tool_call_id": id, "content": told if told is not None else items(sent)}, noted=True)


def _is_command(message: dict[str, Any]) -> bool:
    """Whether a message is a command of a person, which the program answered."""
    said = content_text(message.get("content"))
    return message.get("role") == "user" and _is_unsent(message) and said is not None and _COMMAND.match(said) is not None


def _of(message: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    return [c for c in dicts(message.get("content")) if c.get("type") in types]


def _thoughts(messages: list[dict[str, Any]]) -> list[str]:
    """What the model thought, each thought once."""
    found = (text(c.get("thinking", c.get("text"))) for m in messages for c in _of(m, "thinking", "reasoning"))
    return list(dict.fromkeys(t for t in found if t))


def _model(message: dict[str, Any]) -> str | None:
    inference = obj(obj(message.get("metadata")).get("inference"))
    return text(inference.get("resolvedModel")) or text(inference.get("requestedModel"))


def _answer(messages: list[dict[str, Any]], thoughts: list[str]) -> dict[str, Any]:
    """An answer of the messages that hold its parts; its thoughts are sent again."""
    said = [t for m in messages if (t := content_text(_for_model(m.get("content"))))]
    calls = [{"id": c.get("id"), "type": "function", "function": _call(c)} for m in messages for c in _of(m, *_REQUESTS)]
    answer: dict[str, Any] = {"role": "assistant", "content": "\n".join(said) or None}
    if calls:
        answer["tool_calls"] = calls
    if thoughts:
        answer["reasoning_content"] = "\n\n".join(thoughts)
    return answer


def _call(request: dict[str, Any]) -> dict[str, Any]:
    """The call of a request; one that the model wrote wrongly has an error in its place."""
    given = obj(request.get("toolCall"))
    value = obj(given.get("value")) or (given if "name" in given else {})
    return {"name": value.get("name"), "arguments": value.get("arguments", given.get("error"))}
