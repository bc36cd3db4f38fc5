"""mini-swe-agent `.traj.json` files: `messages[].extra`, `info`, `trajectory_format`; older ones are a bare list of messages.

Since version 2 a message has in `extra` what came of it: the model's whole `response`, the `actions` read from it, an action's
`raw_output` and `returncode`. With models of the Responses API a reply is the whole response object in the list of messages. In
files of version 1 the command stands in the text of the answer alone: it is left there, and no action is made of it.

Source: https://mini-swe-agent.com/latest/usage/output_files/
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import arguments, content_text, dicts, integer, items, number, obj, text, without
from ...types import Action, End, LLMCall, Note, Start, Status
from .. import peek
from ..session import Session, parse_time
from ..transcript import Transcript
from ..verdicts import verdict

NAME = "mini-swe-agent"
_FORMAT = re.compile(rb'"trajectory_format"\s*:\s*"mini-swe-agent')
_LIMITS = ("limitsexceeded", "steplimit", "costlimit", "contextwindow")


def recognise(path: Path, head: bytes) -> bool:
    """`trajectory_format: mini-swe-agent`, or `info` with its marks and `messages`; a bare list only in a `.traj.json` file."""
    root, keys = peek.keys(head)
    named = path.name.endswith(".traj.json")
    if root == "[":
        return named and "role" in keys
    if root != "{" or "trajectory" in keys:
        return False
    if "trajectory_format" in keys and _FORMAT.search(head):
        return True
    marks = not keys.isdisjoint({"info.mini_version", "info.model_stats", "info.exit_status", "info.config"})
    return (marks and (named or "messages.role" in keys)) or (named and "messages.role" in keys)


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where there is no message in it."""
    value = loads(path.read_bytes())
    whole = value if isinstance(value, dict) else {"messages": value}
    messages = dicts(whole.get("messages"))
    if not messages:
        raise InvalidInput("a mini-swe-agent file without messages")
    info = obj(whole.get("info"))
    model = text(obj(obj(info.get("config")).get("model")).get("model_name"))
    task = next((content_text(m.get("content")) for m in messages if m.get("role") == "user"), None)
    # the first messages carry no time: the first answer's is the nearest that is known
    times = (parse_time(obj(m.get("extra")).get("timestamp")) for m in messages)
    started = next((t for t in times if t is not None), None)
    session = Session(NAME, whole.get("instance_id"), content_hash(messages[:2]), started=started)
    if len(messages) < len(items(whole.get("messages"))):
        session.warn("messages that are no object", len(whole["messages"]) - len(messages))
    source = {
        **without(whole, "messages", "info"),
        "config": info.get("config"),
        "format": NAME,
        "path": path.name,
        "session": whole.get("instance_id"),
    }
    session.add(
        Start(
            task=task,
            agent="mini-swe-agent",
            agent_version=text(info.get("mini_version")),
            model=model,
            metadata={"source": {k: v for k, v in source.items() if v is not None}},
            source_time=started,
        )
    )
    reader = _Reader(Transcript(session, model=model))
    for message in messages:
        reader.message(message)
    resolved = verdict(path, text(whole.get("instance_id")) or path.name.removesuffix(".traj.json"))
    if resolved is not None:
        session.score((resolved, ()))
    reader.end(info)
    yield session


def _status(outcome: str) -> Status:
    word = outcome.lower()
    if word == "submitted":
        return "completed"
    if any(limit in word for limit in _LIMITS):
        return "truncated"
    if "interrupt" in word:
        return "cancelled"
    return "timeout" if "timeout" in word else "failed"


class _Reader:
    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.session = transcript.session
        self.waiting: deque[Action] = deque()  # actions without an id of their own; their outcomes come in order
        self.leave: dict[str, Any] = {}
        self.calls = 0

    def message(self, message: dict[str, Any]) -> None:
        extra = obj(message.get("extra"))
        sent = without(message, "extra")
        when = parse_time(extra.get("timestamp"))
        if message.get("role") == "assistant":
            self._reply(sent, extra, when)
        elif message.get("object") == "response":
            self._responses_reply(sent, extra, when)
        elif message.get("role") == "exit":
            self.leave = {"content": message.get("content"), **extra}
        else:
            self._outcome(message, sent, extra, when)

    def _reply(self, sent: dict[str, Any], extra: dict[str, Any], when: int | None) -> None:
        body = obj(extra.get("response"))
        usage = obj(body.get("usage")) or obj(sent.get("usage"))
        more = without(extra, "response", "actions", "cost", "timestamp")
        call = self.transcript.replied(
            sent,
            response=body if body.get("choices") else None,
            when=when,
            usage=usage or None,
            prompt_tokens=integer(usage.get("prompt_tokens")),
            completion_tokens=integer(usage.get("completion_tokens")),
            cost=number(extra.get("cost")),
            model=text(body.get("model")) or self.transcript.model,
            extra=more or None,
        )
        self.calls += 1
        self.waiting.clear()
        if not dicts(sent.get("tool_calls")):
            for action in dicts(extra.get("actions")):
                self.waiting.append(self.transcript.acted("bash", without(action, "tool_call_id"), call=call, when=when))

    def _responses_reply(self, sent: dict[str, Any], extra: dict[str, Any], when: int | None) -> None:
        """A reply of the Responses API: the whole body, whose output items are the next request's input."""
        transcript = self.transcript
        usage = obj(sent.get("usage"))
        output = items(sent.get("output"))
        step = transcript.begin(when)
        call = self.session.add(
            LLMCall(
                step=step,
                source_time=when,
                origin="transcript",
                dialect="openai.responses",
                request={"input": Prefix(transcript.history)},
                response=sent,
                usage=usage or None,
                prompt_tokens=integer(usage.get("input_tokens")),
                completion_tokens=integer(usage.get("output_tokens")),
                cost=number(extra.get("cost")),
                model=text(sent.get("model")) or transcript.model,
            )
        )
        self.calls += 1
        transcript.history += output
        for item in dicts(output):
            if item.get("type") == "function_call":
                given, id = arguments(item.get("arguments")), text(item.get("call_id"))
                transcript.acted(str(item.get("name") or ""), given, id=id, call=call, when=when)

    def _outcome(self, message: dict[str, Any], sent: dict[str, Any], extra: dict[str, Any], when: int | None) -> None:
        """What the model is sent next: the task, an action's outcome, or a complaint about its answer."""
        id = text(message.get("tool_call_id")) or text(message.get("call_id"))
        said = message.get("content", message.get("output"))
        changes: dict[str, Any] = {"result": extra.get("raw_output", said)}
        if "returncode" in extra:
            code = integer(extra["returncode"])
            changes["ok"] = None if code is None else code == 0
        if failure := text(extra.get("exception_info")):
            changes["error"] = failure
            changes["ok"] = False
        more = {k: v for k, v in without(extra, "raw_output", "timestamp").items() if v not in ("", None)}
        if said != changes["result"]:
            more["content"] = said  # what the model was sent
        if more:
            changes["extra"] = more
        answered = False
        if id is not None:
            answered = self.transcript.result(id, **changes)
        elif "raw_output" in extra and self.waiting:
            self.session.replace(self.waiting.popleft(), **changes)
            answered = True
        noted = not answered and (id is not None or bool(extra))
        if not answered and isinstance(extra.get("response"), dict):
            self._refused(extra["response"], extra.get("cost"), when)
            message = {**message, "extra": without(extra, "response")}
        if noted:
            self.session.add(Note(name="message", data=message, step=self._step(), source_time=when))
        is_asked = not answered and message.get("role") == "user"
        self.transcript.saw(sent, observed=is_asked, noted=noted or answered, when=when)

    def _refused(self, body: dict[str, Any], cost: Any, when: int | None) -> None:
        """A reply in which the program found no command: the complaint about it has it, and no later prompt does."""
        usage = obj(body.get("usage"))
        counts = [
            integer(usage.get(chat, usage.get(other)))
            for chat, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        ]
        responses = body.get("object") == "response"
        self.session.add(
            LLMCall(
                step=self.transcript.begin(when),
                source_time=when,
                origin="transcript",
                dialect="openai.responses" if responses else "openai.chat",
                request={"input" if responses else "messages": Prefix(self.transcript.history)},
                response=body,
                usage=usage or None,
                prompt_tokens=counts[0],
                completion_tokens=counts[1],
                cost=number(cost),
                model=text(body.get("model")) or self.transcript.model,
            )
        )
        self.calls += 1

    def _step(self) -> int | None:
        return self.transcript.step if self.transcript.step >= 0 else None

    def end(self, info: dict[str, Any]) -> None:
        stats = obj(info.get("model_stats"))
        stated = integer(stats.get("api_calls"))
        failure = text(info.get("exception_str")) or text(self.leave.get("exception_str"))
        if failure is not None and stated is not None and stated > self.calls:
            # the call that failed is counted, and what it was asked is known: the conversation so far
            request = {"messages": Prefix(self.transcript.history)}
            self.session.add(
                LLMCall(origin="transcript", dialect="openai.chat", model=self.transcript.model, request=request, error=failure)
            )
        outcome = text(info.get("exit_status")) or text(self.leave.get("exit_status"))
        metrics = {
            **without(info, "config", "submission", "model_stats", "mini_version", "exception_str"),
            **without(stats, "api_calls", "instance_cost"),
            "llm_calls": stated,
            "cost": number(stats.get("instance_cost")),
        }
        metrics = {k: v for k, v in metrics.items() if v is not None}
        if outcome is None:  # the file was written before the run had ended, or is of a version that did not say it
            start = self.session.records[0]
            assert isinstance(start, Start)
            if metrics:
                start.metadata["source"]["totals"] = metrics
            self.transcript.close()
            return
        answer = info.get("submission") or self.leave.get("submission") or None
        self.transcript.close()
        left = {
            k: v
            for k, v in without(self.leave, "exit_status", "submission", "exception_str").items()
            if v not in ("", None, answer)
        }
        when = parse_time(left.pop("timestamp", None))
        more = {"exit": left} if left else None  # where it failed: the traceback
        end = End(status=_status(outcome), answer=answer, error=failure, metrics=metrics, source_time=when, extra=more)
        self.session.add(end)
