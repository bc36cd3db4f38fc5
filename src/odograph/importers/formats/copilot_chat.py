"""Chats of GitHub Copilot in VS Code: `Chat: Export Chat...` and the files below `chatSessions`, `{requests[],
responderUsername, ...}`; since VS Code 1.109 a log of JSON lines: the object (`kind` 0, `v`), and what is set (1), pushed (2,
behind the first `i` items where it says so) and deleted (3) at a path in it (`k`).

A request is a prompt of the person. `result.metadata.toolCallRounds` has the rounds of the model, each an answer with tool
calls, and `toolCallResults` what came of these; without rounds the parts of `response` are one answer. What was shown beside
(progress, edits) is in a note.

Source: microsoft/vscode, src/vs/workbench/contrib/chat/common (chatModel) and microsoft/vscode-copilot-chat (toolCallRound).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...dialects.content import as_text
from ...errors import InvalidInput
from ...shape import arguments, dicts, integer, items, obj, text, without
from ...types import Note, Start
from ..peek import keys
from ..session import Lines, NotBegun, Session, parse_time
from ..transcript import Transcript

NAME = "copilot-chat"


def recognise(path: Path, head: bytes) -> bool:
    """An object with requests and who asked or answered them."""
    root, found = keys(head)
    if root == "{" and {"kind", "v"} <= found:
        return bool(found & {"v.requests", "v.responderUsername", "v.initialLocation"})
    if root != "{" or not found & {"responderUsername", "requesterUsername"}:
        return False
    return bool(found & {"requests", "initialLocation"})


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises NotBegun where nothing was asked."""
    if path.suffix == ".json" and path.with_suffix(".jsonl").is_file():
        raise NotBegun("a chat that continues in the log beside this file")
    problems: list[str] = []
    try:
        whole = obj(loads(path.read_bytes()))
    except InvalidInput:
        whole = {"kind": 0}
    is_log = "kind" in whole
    if is_log:
        lines = Lines(path)
        whole = _replayed(v for _, v in lines)
        problems = lines.problems
        if not whole:
            raise InvalidInput("no chat: neither one JSON object nor a log that begins with one (`kind` 0)")
    requests = dicts(whole.get("requests"))
    if not requests:
        raise NotBegun("a chat without a request")
    first = requests[0]
    session = Session(NAME, text(whole.get("sessionId")) or text(first.get("requestId")) or path.stem)
    started = parse_time(whole.get("creationDate")) or parse_time(first.get("timestamp"))
    model = next((m for r in requests if (m := text(r.get("modelId")))), None)
    source = {"format": NAME, "path": path.name, **without(whole, "requests"), "interactive": True}
    task = text(obj(first.get("message")).get("text"))
    session.add(Start(task=task, agent="copilot", model=model, metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, model=model)
    for problem in problems:
        session.warn(problem)
    for number, request in enumerate(requests):
        under_way = is_log and number == len(requests) - 1 and "result" not in request and not request.get("isCanceled")
        _request(transcript, without(request, "response") if under_way else request, number)
    transcript.close()
    yield session


def _replayed(entries: Iterable[Any]) -> dict[str, Any]:
    """The chat that a log leaves. What can't be done to it is passed over."""
    whole: dict[str, Any] = {}
    for entry in entries:
        change = obj(entry)
        kind, value, place = change.get("kind"), change.get("v"), items(change.get("k"))
        if kind == 0:
            whole = obj(value)
        if kind not in (1, 2, 3) or not place:
            continue
        at: Any = whole
        for name in place[:-1]:
            at = _inside(at, name)
        last = place[-1]
        if kind == 2:
            there = _inside(at, last)
            if there is None:
                there = []
                _put(at, last, there)
            if isinstance(there, list):
                if (start := integer(change.get("i"))) is not None:
                    del there[max(0, start) :]
                there += items(value)
        elif kind == 1:
            _put(at, last, value)
        elif isinstance(at, dict) and isinstance(last, str):
            at.pop(last, None)
    return whole


def _inside(value: Any, name: Any) -> Any:
    if isinstance(value, dict) and isinstance(name, str):
        return value.get(name)
    if isinstance(value, list) and (n := integer(name)) is not None and 0 <= n < len(value):
        return value[n]
    return None


def _put(value: Any, name: Any, new: Any) -> None:
    if isinstance(value, dict) and isinstance(name, str):
        value[name] = new
    elif isinstance(value, list) and (n := integer(name)) is not None and 0 <= n <= len(value):
        value[n : n + 1] = [new]


def _request(transcript: Transcript, request: dict[str, Any], number: int) -> None:
    when = parse_time(request.get("timestamp"))
    said = obj(request.get("message")).get("text")
    attached = list(dicts(obj(request.get("variableData")).get("variables")))
    prompt: dict[str, Any] = {"role": "user", "content": said}
    if attached:
        names = [{"type": "attachment", **{k: v[k] for k in ("name", "kind", "value") if k in v}} for v in attached]
        prompt["content"] = [{"type": "text", "text": said}, *names]
    transcript.saw(prompt, id=text(request.get("requestId")), when=when)
    result = obj(request.get("result"))
    about = obj(result.get("metadata"))
    rounds = dicts(about.get("toolCallRounds"))
    model = text(request.get("modelId")) or transcript.model
    usage = obj(result.get("usage")) or obj(about.get("usage"))
    if not usage:  # newer versions
        counts = {name: request.get(name, about.get(name)) for name in ("promptTokens", "completionTokens")}
        usage = {"completionTokens": about.get("outputTokens")} | {k: v for k, v in counts.items() if v is not None}
    parts = dicts(request.get("response"))
    if not rounds and not parts:
        return  # no answer yet, or it was cancelled before one
    shown = _text(parts)
    codes = {text(p.get("toolCallId")): _code(p) for p in parts}
    for turn, one in enumerate(rounds or [{"response": shown, "toolCalls": []}]):
        last = turn == len(rounds) - 1 or not rounds
        calls = [
            {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("arguments")}}
            for c in dicts(one.get("toolCalls"))
        ]
        answer = {
            "role": "assistant",
            "content": as_text(one.get("response")) or None,
            **({"tool_calls": calls} if calls else {}),
        }
        thoughts = obj(one.get("thinking")).get("text")
        transcript.replied(
            answer,
            when=parse_time(one.get("timestamp")) or when,
            model=model,
            reasoning=as_text(thoughts) or _thoughts(parts if not rounds else []),
            prompt_tokens=integer(usage.get("promptTokens", usage.get("prompt_tokens"))) if last else None,
            completion_tokens=integer(usage.get("completionTokens", usage.get("completion_tokens"))) if last else None,
            error=result.get("errorDetails") if last else None,
            extra={"request": request.get("requestId"), "round": one.get("id")},
        )
        for call in calls:
            _result(transcript, call, obj(about.get("toolCallResults")).get(str(call["id"])), codes.get(text(call["id"])))
    if not rounds:
        for part in parts:
            if part.get("kind") in ("toolInvocationSerialized", "toolInvocation"):
                _invoked(transcript, part, when)
    if rounds and shown:
        data = {"request": request.get("requestId"), "text": shown}
        transcript.session.add(Note(name="shown", data=data, step=transcript.step, source_time=when), "shown", number)


def _text(parts: list[dict[str, Any]]) -> str:
    """The Markdown of a response, and the references in it."""
    out: list[str] = []
    for part in parts:
        kind, value = part.get("kind"), part.get("value")
        if kind is None and isinstance(value, str):
            out.append(value)
        elif kind in ("markdownContent", "markdownVuln"):
            out.append(as_text(obj(part.get("content")).get("value")))
        elif kind == "inlineReference":
            reference = obj(part.get("inlineReference"))
            out.append(text(part.get("name")) or text(reference.get("name")) or text(reference.get("path")) or "")
    return "".join(out)


def _thoughts(parts: list[dict[str, Any]]) -> str | None:
    told = [as_text(p.get("value")) for p in parts if p.get("kind") == "thinking"]
    return "".join(told) or None


def _code(part: dict[str, Any]) -> int | None:
    """The exit code of the command that a tool ran in a terminal."""
    return integer(obj(obj(part.get("toolSpecificData")).get("terminalCommandState")).get("exitCode"))


def _result(transcript: Transcript, call: dict[str, Any], found: Any, code: int | None) -> None:
    if found is None:
        return
    told = [
        as_text(p.get("value")) if not isinstance(p.get("value"), str) else p["value"] for p in dicts(obj(found).get("content"))
    ]
    content = "\n".join(told) if told else as_text(found)
    id = text(call.get("id"))
    transcript.result(id, result=content, ok=None if code is None else code == 0)
    transcript.saw({"role": "tool", "tool_call_id": id, "content": content})


def _invoked(transcript: Transcript, part: dict[str, Any], when: int | None) -> None:
    """A tool that only what was shown tells of."""
    specific = obj(part.get("toolSpecificData"))
    given = specific.get("rawInput", obj(specific.get("commandLine")).get("original"))
    output = [as_text(p.get("value")) for p in items(obj(part.get("resultDetails")).get("output")) if isinstance(p, dict)]
    name = text(part.get("toolId")) or text(part.get("toolName")) or ""
    result = "\n".join(output) or None
    done = part.get("isComplete")
    told = {k: part.get(k) for k in ("invocationMessage", "pastTenseMessage")}
    code = _code(part)
    ok = code == 0 if code is not None else True if done is True and result else None
    transcript.acted(name, arguments(given), id=text(part.get("toolCallId")), when=when, result=result, ok=ok, extra=told)
