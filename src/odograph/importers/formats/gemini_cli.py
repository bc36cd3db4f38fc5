"""Gemini CLI sessions: one JSON object `{sessionId, projectHash, messages[]}` a file, or, since 0.39, a log of JSON lines.

Source: the chats below `~/.gemini/tmp`. A message of type `gemini` is one reply of the model with the tool calls it asked
for and their results; requests are rebuilt from the transcript in OpenAI's chat shape, which holds all that the file says.
In the log a message is written again, under the same id, whenever it changes: the last one counts. `$set.messages` replaces
the conversation (a resume, a compression), `$rewindTo` takes a message and all after it away. What was answered before
stays a call; later prompts are without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import dicts, integer, items, nanoseconds, obj, text, without
from ...types import Action, Fork, LLMCall, Note, Start, StepStart
from .. import peek
from ..session import Lines, NotBegun, Session, observed_where, parse_time
from .gemini_parts import (
    answer_of,
    calls_in,
    is_context,
    is_put_in_place,
    only_carries,
    response_of,
    said_in,
    sent_of,
    succeeded,
    told_in,
    with_own_result,
    words_of,
)

NAME = "gemini-cli"


def recognise(path: Path, head: bytes) -> bool:
    """`sessionId` and `projectHash` near the beginning."""
    return head.lstrip()[:1] == b"{" and b'"sessionId"' in head[:4096] and b'"projectHash"' in head[:4096]


def read(path: Path) -> Iterator[Session]:
    """The session of a file, or of each of its lines. Raises InvalidInput where it has none."""
    data = path.read_bytes()
    problems: list[str] = []
    try:
        found = [loads(data)]
    except InvalidInput:
        lines = Lines(path)
        found = [v for _, v in lines]
        problems = lines.problems
    del data
    values = [v for v in found if isinstance(v, dict)]
    whole = [v for v in values if isinstance(v.get("messages"), list) and v["messages"]]
    if values and "sessionId" in values[0] and (len(values) > 1 or not whole) and not all("sessionId" in v for v in values[1:]):
        first, entries = values[0], values[1:]
        del found, values, whole  # what no record holds is let go before the session is stored
        session = _session(path, first, entries, problems)
        del first, entries
        yield session
        return
    if not whole:
        raise NotBegun("a Gemini CLI file without messages")
    for value in whole:
        yield _session(path, value, [], problems)


class _Talk:
    """The conversation as the log leaves it: what stands in it, and where each message stands."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.history: list[Any] = []
        #: Of each message that stands: where its part of the history begins and ends.
        self.spots: dict[str, tuple[int, int]] = {}
        #: What each message of a user says.
        self.said: dict[str, Any] = {}

    def cut(self, count: int) -> None:
        """Only the first messages stand; what was sent before stays as it was."""
        stop = self.spots[self.ids[count - 1]][1] if count else 0
        self.history = self.history[:stop]
        for id in self.ids[count:]:
            self.spots.pop(id, None)
        del self.ids[count:]

    def send(self, messages: list[tuple[str, dict[str, Any]]]) -> None:
        """These messages are sent as they stand: a resumed session's list has calls and results among the parts, some of them
        twice (version 0.61)."""
        self.history, self.ids, self.spots = [], [], {}
        for id, message in messages:
            start = len(self.history)
            content = message.get("content")
            if message.get("type") == "gemini":
                self.history.append(answer_of(content, calls_in(message)))
            elif message.get("type") == "user":
                for is_result, run in groupby(items(content) or [content], lambda p: "functionResponse" in obj(p)):
                    parts = list(run)
                    if is_result:
                        names = (text(obj(p["functionResponse"]).get("id")) for p in parts)
                        sent = (
                            {"role": "tool", "tool_call_id": n, "content": sent_of([p])}
                            for n, p in zip(names, parts, strict=True)
                        )
                        self.history += sent
                    else:
                        self.history.append({"role": "user", "content": said_in(parts if isinstance(content, list) else content)})
            self.ids.append(id)
            self.spots[id] = (start, len(self.history))


class _Reader:
    def __init__(self, session: Session, folder: Path | None = None) -> None:
        self.session = session
        #: Where the logs of its sub-agents lie.
        self.folder = folder
        self.talk = _Talk()
        self.versions: dict[str, dict[str, Any]] = {}
        self.seen: set[str] = set()
        #: Messages that only carry tool calls of replies: an editor's sessions have one for all calls (version 0.61).
        self.carriers: set[str] = set()
        #: The tool calls whose results stand with them, and the actions of the others.
        self.given: set[str] = set()
        self.open: dict[str, Action] = {}
        self.step = -1
        self.observed: list[Any] = []
        self.unanswered: list[dict[str, Any]] = []

    def know(self, entries: Iterable[dict[str, Any]]) -> None:
        """The last version of every message, wherever it is written, with the tool calls that it asked for."""
        replied: str | None = None
        asked: dict[str, str] = {}  # of each tool call that was answered: the reply before the answer
        answers: dict[str, dict[str, Any]] = {}
        carried: dict[str, str] = {}
        after_reply = False
        for entry in entries:
            found = _named(obj(entry.get("$set")).get("messages")) if "$set" in entry else [(_id(entry), entry)]
            for id, message in ((id, message) for id, message in found if "type" in message):
                new = id not in self.versions
                self.versions[id] = message
                is_reply = message["type"] == "gemini"
                if new and is_reply and after_reply and replied is not None and only_carries(message):
                    carried[id] = replied
                if id in carried and replied is not None:
                    for call in dicts(message.get("toolCalls")):
                        asked.setdefault(text(call.get("id")) or "", replied)
                elif not new:
                    continue
                elif is_reply:
                    replied = id
                elif message["type"] == "user" and replied is not None:
                    for part in dicts(message.get("content")):
                        if (name := text(obj(part.get("functionResponse")).get("id"))) is not None:
                            asked.setdefault(name, replied)
                            answers.setdefault(name, part)
                after_reply = is_reply
        self.carriers = set(carried)
        for id, before in carried.items():
            for call in dicts(self.versions[id].get("toolCalls")):
                self._asked(asked.get(text(call.get("id")) or "", before), call)
        calls = [c for message in self.versions.values() for c in dicts(message.get("toolCalls"))]
        calls += [c for message in self.versions.values() for c in calls_in(message)]
        known = {text(c.get("id")) for c in calls}
        for id, part in answers.items():
            if id not in known:  # a call that a person refused stands nowhere else
                self._asked(asked[id], {"id": id, "name": part["functionResponse"].get("name"), "result": [part]})
        calls = [c for message in self.versions.values() for c in dicts(message.get("toolCalls"))]
        answered = (text(c.get("id")) for c in calls if c.get("result") is not None)
        self.given = {name for name in answered if name}

    def _asked(self, reply: str, call: dict[str, Any]) -> None:
        message = self.versions[reply]
        self.versions[reply] = {**message, "toolCalls": [*dicts(message.get("toolCalls")), call]}

    def take(self, entry: dict[str, Any]) -> None:
        if "$rewindTo" in entry:
            ids = self.talk.ids
            self.leave()
            self.talk.cut(ids.index(entry["$rewindTo"]) if entry["$rewindTo"] in ids else 0)
            self.session.add(Note(name="rewind", data=entry), "event", content_hash([entry, len(self.seen)]))
        elif "$set" in entry:
            changed = obj(entry["$set"])
            if isinstance(changed.get("messages"), list):
                self.replace([(id, message) for id, message in _named(changed["messages"]) if "type" in message])
        elif "type" in entry:
            self.message(_id(entry), entry)

    def replace(self, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        """Only these messages stand, in this order. A user's message may say something else now: later prompts say that."""
        same = 0
        for standing, (id, message) in zip(self.talk.ids, wanted, strict=False):
            if standing != id or (message.get("type") == "user" and message.get("content") != self.talk.said.get(id)):
                break
            same += 1
        if same < len(self.talk.ids):
            self.leave()
            self.talk.cut(same)
        for id, message in wanted[same:]:
            self.message(id, message)
        if any("functionCall" in part for _, m in wanted if m.get("type") == "gemini" for part in dicts(m.get("content"))):
            self.talk.send(wanted)

    def message(self, id: str, message: dict[str, Any]) -> None:
        if id in self.talk.spots:
            return
        kind = message.get("type")
        if kind == "user":
            self.talk.said[id] = message.get("content")
        else:
            message = self.versions[id]
        start = len(self.talk.history)
        new = id not in self.seen
        self.seen.add(id)
        if id in self.carriers:
            kind = None
        if kind == "user":
            content = self.answered(message.get("content"))
            if content is not None:
                said = {"role": "user", "content": said_in(content)}
                self.talk.history.append(said)
            if new and content is not None:
                self.observed.append(content)
                self.unanswered.append({**said, "id": id, "timestamp": message.get("timestamp")})
        elif kind == "gemini" and not is_put_in_place(message):
            self.reply(id, message, new)
        elif kind is not None:
            if kind == "gemini":
                self.talk.history.append(answer_of(message.get("content"), []))
            if new:
                data = without(message, "type", "timestamp")
                when = parse_time(message.get("timestamp"))
                self.session.add(Note(name=str(kind), data=data, source_time=when), "event", id)
        self.talk.ids.append(id)
        self.talk.spots[id] = (start, len(self.talk.history))

    def answered(self, content: Any) -> Any:
        """A user's content without the tool results that newer versions write as a message, too; None where nothing is left. A
        result that does not stand with its call belongs to the call."""
        left: list[Any] = []
        for part in items(content):
            id = text(obj(obj(part).get("functionResponse")).get("id"))
            if id is None or (id not in self.given and id not in self.open):
                left.append(part)
            elif id not in self.given:
                error = response_of(part).get("error")
                self.session.replace(self.open[id], result=[part], error=error, ok=error is None and succeeded(sent_of([part])))
                self.talk.history.append({"role": "tool", "tool_call_id": id, "content": sent_of([part])})
        return left or (None if items(content) else content)

    def leave(self) -> None:
        """What no reply followed is kept in a note; where one follows later, the reply's step takes its place."""
        if self.unanswered:
            when = parse_time(self.unanswered[0].get("timestamp"))
            note = Note(name="unanswered", data={"messages": self.unanswered}, source_time=when)
            self.session.add(note, "step", self.unanswered[0]["id"])
        self.unanswered, self.observed = [], []

    def _started(self, call: dict[str, Any]) -> dict[str, Any]:
        """For a tool call that started a sub-agent: which trajectory that is."""
        agent = text(call.get("agentId"))
        if agent is None or self.folder is None or "/" in agent:
            return {}
        found = _first_line(self.folder / f"{agent}.jsonl")
        return {"trajectory": _identified(found).id} if found.get("sessionId") == agent else {}

    def reply(self, id: str, message: dict[str, Any], new: bool) -> None:
        when = parse_time(message.get("timestamp"))
        content = message.get("content")
        calls = [with_own_result(c) for c in dicts(message.get("toolCalls")) or calls_in(message)]
        answer = answer_of(content, calls)
        if new:
            self._record(id, message, answer, calls, when)
        self.talk.history.append(answer)
        for item in calls:
            if item.get("result") is not None:
                self.talk.history.append({"role": "tool", "tool_call_id": item.get("id"), "content": sent_of(item["result"])})

    def _record(
        self, id: str, message: dict[str, Any], answer: dict[str, Any], calls: list[dict[str, Any]], when: int | None
    ) -> None:
        self.step += 1
        observed, self.observed = self.observed, []
        unanswered, self.unanswered = self.unanswered, []
        to = self.session
        key = ("step", unanswered[0]["id"]) if unanswered else ("step", id, "reply")
        seen = observed[0] if len(observed) == 1 else observed or None
        where = observed_where([u["id"] for u in unanswered], [parse_time(u.get("timestamp")) for u in unanswered])
        to.add(StepStart(step=self.step, observation=seen, source_time=when, extra=where), *key)
        tokens = obj(message.get("tokens"))
        thoughts = [
            f"{t.get('subject') or ''}\n{t.get('description') or t.get('summary') or ''}".strip()
            for t in dicts(message.get("thoughts"))
        ]
        call = to.add(
            LLMCall(
                step=self.step,
                source_time=when,
                origin="transcript",
                dialect="openai.chat",
                model=text(message.get("model")),
                request={"messages": Prefix(self.talk.history)},
                response=answer,
                reasoning="\n\n".join(t for t in thoughts if t) or None,
                usage=tokens or None,
                prompt_tokens=integer(tokens.get("input")),
                completion_tokens=integer(tokens.get("output")),
                extra=without(message, "type", "timestamp", "content", "toolCalls", "tokens", "model") or None,
            ),
            *("reply", id),
        )
        for index, item in enumerate(calls):
            status = item.get("status")
            ok = status in ("success", "completed") if status in ("success", "completed", "error", "cancelled") else None
            ok = ok and succeeded(sent_of(item.get("result")))
            failed = [e for r in dicts(item.get("result")) if (e := response_of(r).get("error")) is not None]
            ok = False if ok is None and failed else ok
            name = text(item.get("id"))
            action = to.add(
                Action(
                    step=self.step,
                    source_time=parse_time(item.get("timestamp")) or when,
                    name=str(item.get("name") or ""),
                    arguments=item.get("args"),
                    result=item.get("result"),
                    ok=ok,
                    error=failed[0] if failed else None,
                    duration=nanoseconds(d / 1000) if isinstance(d := item.get("durationMs"), int | float) else None,
                    llm_call=call.id,
                    tool_call_id=name,
                    extra=without(item, "id", "name", "args", "result", "timestamp") | self._started(item) or None,
                ),
                *("action", id, name or index),
            )
            if name and action.result is None:
                self.open[name] = action


def _session(path: Path, value: dict[str, Any], entries: list[dict[str, Any]], problems: list[str]) -> Session:
    given = value.get("messages") if isinstance(value.get("messages"), list) else []
    log = [{"$set": {"messages": given}}, *entries] if given else entries
    started = parse_time(value.get("startTime"))
    session = _identified(value)
    id = text(value.get("sessionId"))
    reader = _Reader(session, path.parent / id if id and "/" not in id else None)
    reader.know(log)
    messages = reader.versions.values()
    if all(m.get("type") not in ("user", "gemini") or is_context(m) for m in messages):
        raise NotBegun("a Gemini CLI file without messages")
    for problem in problems:
        session.warn(problem)
    if len(dicts(given)) < len(given or []):
        session.warn("messages that are no object", len(given or []) - len(dicts(given)))
    about = without(value, "messages", "sessionId", "startTime")
    for entry in entries:
        if "type" not in entry:  # later lines say more of the session
            about |= without(obj(entry["$set"]) if "$set" in entry else entry, "messages", "sessionId", "startTime", "$rewindTo")
    source = {"format": NAME, "path": path.name, "session": value.get("sessionId"), **about, "interactive": True}
    said = (told_in(m.get("displayContent") or m.get("content")) for m in reader.versions.values() if m.get("type") == "user")
    task = next((t for t in said if t and not t.lstrip().startswith(("/", "?"))), None)
    if task is None:
        task = next((t for m in reader.versions.values() if m.get("type") == "user" and (t := words_of(m.get("content")))), None)
    parent = _parent_of(path) if value.get("kind") == "subagent" else None
    agent = _names_of(parent[0], parent[0].stat().st_mtime_ns).get(id or "") if parent else None
    fork = Fork(trajectory=_identified(parent[1]).id, reason="sub-agent") if parent else None
    start = Start(task=task, agent=agent or "gemini-cli", source_time=started, fork=fork, metadata={"source": source})
    session.add(start, "start")
    for entry in log:
        reader.take(entry)
    reader.leave()
    return session


def _identified(value: dict[str, Any]) -> Session:
    """The session that a log's first line names."""
    return Session(NAME, value.get("sessionId"), value.get("startTime"), started=parse_time(value.get("startTime")))


def _first_line(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return obj(loads(file.readline(64 * 1024)))
    except (OSError, InvalidInput):
        return {}


def _parent_of(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The log of the session that a sub-agent belongs to, whose folder is named for the session, and the log's first line."""
    session = path.parent.name
    for beside in peek.files_in(path.parent.parent, "*.jsonl"):
        if session[:8] in beside.name and (first := _first_line(beside)).get("sessionId") == session:
            return beside, first
    return None


@lru_cache(maxsize=64)
def _names_of(path: Path, changed: int) -> dict[str, str]:
    """What a session calls each of its sub-agents. A session may have many: its log is read once for each of its states."""
    calls = (c for _, v in Lines(path) for c in dicts(obj(v).get("toolCalls")))
    named = ((text(c.get("agentId")), text(obj(c.get("args")).get("agent_name")) or text(c.get("name"))) for c in calls)
    return {id: name for id, name in named if id is not None and name is not None}


def _id(message: dict[str, Any]) -> str:
    """A message's id; where it has none (old files), what it says and when."""
    return text(message.get("id")) or content_hash(message)


def _named(messages: Any) -> list[tuple[str, dict[str, Any]]]:
    """The messages of a list with their ids; equal ones without an id are two. In a resumed session the results that a reply
    asked for are a message with the reply's id: a message of its own."""
    count: Counter[str] = Counter()
    kinds: dict[str, Any] = {}
    found: list[tuple[str, dict[str, Any]]] = []
    for message in dicts(messages):
        id = _id(message)
        count[id] += 1
        if kinds.setdefault(id, message.get("type")) != message.get("type"):
            id = f"{id}-{message.get('type')}"
        elif count[id] > 1 and not text(message.get("id")):
            id = f"{id}-{count[id]}"
        found.append((id, message))
    return found
