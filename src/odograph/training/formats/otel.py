"""Spans of OpenTelemetry: OTLP/JSON, a trajectory a trace. A row is an `ExportTraceServiceRequest`, as a receiver takes it.

Each record is one span whose id comes from the record's id, so a receiver that has it knows it again. The run is
`invoke_agent`, a call `chat`, an action `execute_tool`, by the GenAI semantic conventions; `odograph.*` says what these have no
name for (`spans/odograph.py`, which reads the spans back). Source: https://opentelemetry.io/docs/specs/otlp,
https://github.com/open-telemetry/semantic-conventions-genai.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from ... import dialects
from ...calls import Call
from ...codec import encode, record_to_dict
from ...dialects.content import as_text
from ...groups import RUNNING
from ...shape import integer, number, obj
from ...spans import chat
from ...spans import odograph as own
from ...trajectory import Trajectory
from ...types import VERSION, Action, AnyRecord, Context, Edit, End, LLMCall, Record, Reward, Start, StepStart
from . import LeftOut

NAME = "otel"
FILES = ("jsonl",)

_SIZE = 1 << 20  # bytes of spans in a request, where one span has not more
_INTERNAL, _CLIENT = 1, 3  # kinds of spans
_ERROR = 2  # a status
#: Operations and providers of dialects, as the conventions name them.
_OPERATIONS = {"openai.completions": "text_completion", "gemini": "generate_content"}
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini", "bedrock": "aws.bedrock"}
_FLOATS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")


def rows(trajectory: Trajectory, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """The requests of a trajectory, in order."""
    if trajectory.start is None:
        left_out("no start")
        return
    if trajectory.status == "running":  # a span is sent when it has ended
        left_out(RUNNING)
        return
    resource = {"attributes": _typed({"service.name": trajectory.agent or "odograph", "telemetry.sdk.language": "python"})}
    scope = {"name": own.SCOPE, "version": VERSION}

    def request(spans: list[dict[str, Any]]) -> dict[str, Any]:
        return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}

    waiting: list[dict[str, Any]] = []
    size = 0
    for span in _Trace(trajectory).spans():
        more = len(encode(span))
        if waiting and size + more > _SIZE:
            yield request(waiting)
            waiting, size = [], 0
        waiting.append(span)
        size += more
    yield request(waiting)


class _Trace:
    """The spans of a trajectory on their way."""

    def __init__(self, trajectory: Trajectory) -> None:
        assert trajectory.start is not None
        self._trajectory = trajectory
        self._start = trajectory.start
        self._trace = _hash(16, trajectory.id)
        #: The records that no other corrects: where each stands, and which agent acted.
        self._order = {r.id: n for n, r in enumerate(trajectory.standing)}
        self._who = {r.id: self._agent(r) for r in trajectory.standing}
        #: When each began and ended, nanoseconds.
        self._times: dict[str, tuple[int, int]] = {}
        #: Of an agent inside a record: when it began and ended.
        self._inside: dict[tuple[str, str], tuple[int, int]] = {}
        self._measure()

    def _agent(self, record: AnyRecord) -> str | None:
        return None if record.agent in (None, self._start.agent) or isinstance(record, Start) else record.agent

    def _parent(self, record: AnyRecord) -> str:
        parent = record.parent
        return parent if parent in self._order and parent != record.id else self._start.id

    def _measure(self) -> None:
        """A span is as long as what is in it; what is said of it later (rewards, labels) makes it no longer."""
        for record in reversed(self._trajectory.standing):
            began, ended = _moment(record), _moment(record)
            if isinstance(record, (LLMCall, Action, Context)):
                began = record.started if record.started is not None and _is_time(record.started) else began
                duration = record.duration if isinstance(record.duration, int) and 0 <= record.duration < 10**18 else None
                ended = max(ended if duration is None else began + duration, began)
            found = self._times.get(record.id)
            self._times[record.id] = began, ended = (
                (min(began, found[0]), max(ended, found[1])) if found is not None else (began, ended)
            )
            if isinstance(record, (StepStart, LLMCall, Action, Context)):
                parent = self._parent(record)
                agent = self._who[record.id]
                places: list[tuple[dict[Any, tuple[int, int]], Any]] = [(self._times, parent)]
                if agent is not None and agent != self._who[parent]:
                    places.append((self._inside, (parent, agent)))
                for times, at in places:
                    known = times.get(at, (began, ended))
                    times[at] = min(known[0], began), max(known[1], ended)
        end = self._trajectory.end
        if end is not None:
            began, ended = self._times[self._start.id]
            self._times[self._start.id] = began, max(ended, _moment(end))

    def spans(self) -> Iterator[dict[str, Any]]:
        for record in self._trajectory.complete_records():
            if record.id in self._order and not isinstance(record, End):
                yield self._span(record)
        for (parent, agent), (began, ended) in self._inside.items():
            about = {own.OWN + "kind": own.AGENT, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
            id = _hash(8, self._trajectory.id, parent, agent)
            yield self._made(id, self._id(parent), f"invoke_agent {agent}", began, ended, about)

    def _id(self, record: str) -> str:
        """The id of a record's span. A fork's link has to know the root's of another trajectory."""
        return _hash(8, self._trajectory.id, record if record != self._start.id else "")

    def _span(self, record: AnyRecord) -> dict[str, Any]:
        """The span of a record."""
        fields = record_to_dict(record)
        parent, agent = self._parent(record), self._who[record.id]
        place: dict[str, Any] = {
            "kind": fields["kind"],
            "order": self._order[record.id],
            "id": record.id,
            "time": self._told(record),
            "agent": agent,
            "step": record.step,
            "parent": None if record is self._start else self._id(parent),
        }
        for name in (*own.PLACE, "streams"):
            fields.pop(name, None)
        for name in own.REFERENCES:
            if fields.get(name) in self._order:
                fields[name] = self._id(fields[name])
        if isinstance(record, Edit):
            fields["result"] = [r | {"call": self._id(r["call"])} if r.get("call") else r for r in fields.get("result", [])]
        more: dict[str, Any] = {}
        name, attributes, failed = _says(record)(self, record, fields)
        if record is self._start:
            more |= self._links()
        elif agent is not None and agent != self._who[parent] and isinstance(record, (StepStart, LLMCall, Action, Context)):
            more["parentSpanId"] = _hash(8, self._trajectory.id, parent, agent)
        if failed is not None:
            more["status"] = {"code": _ERROR, "message": failed}
        attributes |= own.attributes(place) | own.attributes(fields)
        began, ended = self._times[record.id]
        above = None if record is self._start else self._id(parent)
        return self._made(self._id(record.id), above, name, began, ended, attributes, **more)

    def _made(
        self, id: str, parent: str | None, name: str, began: int, ended: int, attributes: dict[str, Any], **more: Any
    ) -> dict[str, Any]:
        kind = _CLIENT if attributes.get(own.OWN + "kind") == "llm_call" else _INTERNAL
        return {
            "traceId": self._trace,
            "spanId": id,
            **({"parentSpanId": parent} if parent is not None else {}),
            "name": _text(name),
            "kind": kind,
            "startTimeUnixNano": str(began),
            "endTimeUnixNano": str(ended),
            "attributes": _typed({"gen_ai.conversation.id": self._trajectory.id} | attributes),
            **more,
        }

    def _told(self, record: AnyRecord) -> int | None:
        """When a record says that it was; None where an import's source didn't say."""
        imported = "source" in self._start.metadata and not isinstance(record, (Reward, Edit))
        return record.source_time if record.source_time is not None or imported else record.time

    def _links(self) -> dict[str, Any]:
        """A fork's link to the run that it left."""
        fork = self._start.fork
        if fork is None:
            return {}
        return {"links": [{"traceId": _hash(16, fork.trajectory), "spanId": _hash(8, fork.trajectory, "")}]}

    # --- what each kind of record says: the name of its span, GenAI's attributes, what failed; its fields lose these ---------

    def start(self, record: Start, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        end = self._trajectory.end
        out: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": record.agent,
            "gen_ai.agent.version": fields.pop("agent_version", None),
            "gen_ai.request.model": fields.pop("model", None),
        }
        fields.pop("schema_version", None)
        if record.task is not None:
            out["gen_ai.input.messages"] = _messages([{"role": "user", "content": as_text(record.task)}])
        if isinstance(record.task, str):
            fields.pop("task")
        failed = None
        if end is not None:
            ended = record_to_dict(end) | {"status": end.status, "time": self._told(end)}
            if end.answer is not None:
                out["gen_ai.output.messages"] = _messages([{"role": "assistant", "content": as_text(end.answer)}])
            if isinstance(end.answer, str):
                ended.pop("answer")
            kept = {n: v for n, v in ended.items() if n not in own.PLACE or n == "time"}
            out |= own.attributes(kept, own.END)
            if end.status in ("failed", "timeout"):
                failed = as_text(end.error) or end.status
                out["error.type"] = end.status
        return f"invoke_agent {record.agent or ''}".strip(), out, failed

    def call(self, record: LLMCall, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        call = Call(record)
        dialect = record.dialect or "openai.chat"
        operation = _OPERATIONS.get(dialect, "chat")
        choices, params = call.choices, dict(call.params)
        reasons = [c.finish_reason for c in choices] if any(c.finish_reason for c in choices) else [call.finish_reason]
        response = obj(record.response)
        out: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(dialect.partition(".")[0], "_OTHER"),
            "gen_ai.request.model": obj(record.request).get("model") or record.model,
            "gen_ai.response.model": record.model or response.get("model"),
            "gen_ai.response.id": response.get("id"),
            "gen_ai.agent.name": record.agent or self._start.agent,
            "gen_ai.usage.input_tokens": integer(call.prompt_tokens),
            "gen_ai.usage.output_tokens": integer(call.completion_tokens),
        }
        if any(reasons):
            out["gen_ai.response.finish_reasons"] = [reason or "" for reason in reasons]
        for wire, name in own.PARAMS.items():
            value = params.get(wire)
            known = number(value) is not None or isinstance(value, str) or _texts(value)
            if value is not None and known and not isinstance(value, bool):
                del params[wire]
                out[name] = float(value) if wire in _FLOATS and not isinstance(value, str) else value
        if call.messages:
            out["gen_ai.input.messages"] = _messages(call.messages)
        if call.tools:
            out["gen_ai.tool.definitions"] = encode([_flat(tool) for tool in call.tools]).decode()
        if choices:
            reasoned = record.reasoning if len(choices) == 1 else None
            out["gen_ai.output.messages"] = _messages(
                [{**_answer(c), "reasoning_content": c.reasoning or reasoned} for c in choices],
                [c.finish_reason for c in choices],
            )
        decided = dialects.is_decision(record)
        tokens = [_tokens(record, n, c) for n, c in enumerate(choices)]
        for held in (
            "request",
            "response",
            "events",
            "reasoning",
            "finish_reason",
            "prompt_tokens",
            "completion_tokens",
            "model",
        ):
            fields.pop(held, None)
        fields |= {"response": record.response} if decided else {}
        fields |= {"params": params or None, "tokens": tokens if any(tokens) else None, "usage": call.usage}
        fields["prompt_token_ids"] = None if call.batch_token_ids else call.prompt_token_ids
        failed = as_text(record.error) if record.error is not None else None
        if failed is not None:
            out["error.type"] = str(record.status_code or obj(record.error).get("type") or "_OTHER")
        return f"{operation} {record.model or ''}".strip(), out, failed

    def action(self, record: Action, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        out: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": fields.pop("name", None),
            "gen_ai.tool.call.id": fields.pop("tool_call_id", None),
            "gen_ai.tool.type": "function",
        }
        if (given := fields.pop("arguments", None)) is not None:
            out["gen_ai.tool.call.arguments"] = encode(given).decode()
        result = record.result
        if result is not None:
            is_text = isinstance(result, str) and own.is_plain(result)
            out["gen_ai.tool.call.result"] = result if is_text else encode(fields["result"]).decode()
            fields |= {} if is_text else {"result_is_json": True}
            fields.pop("result")
        failed = as_text(record.error) if record.error is not None else "the tool failed" if record.ok is False else None
        if failed is not None:
            out["error.type"] = str(obj(record.error).get("type") or "_OTHER")
        return f"execute_tool {record.name}".strip(), out, failed

    def context(self, record: Context, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        out: dict[str, Any] = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": fields.pop("provider", None)}
        if record.query is not None:
            out["gen_ai.retrieval.query.text"] = as_text(record.query)
        if isinstance(record.query, str):
            fields.pop("query", None)
        failed = as_text(record.error) if record.error is not None else None
        return f"retrieval {record.provider}".strip(), out, failed

    def step(self, record: StepStart, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        return f"step {record.step}", {}, None

    def reward(self, record: Reward, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
        out: dict[str, Any] = {
            "gen_ai.evaluation.name": record.name,
            "gen_ai.evaluation.explanation": fields.pop("rationale", None),
        }
        fields.pop("name", None)
        if type(record.value) in (int, float) and own.is_plain(record.value):
            out["gen_ai.evaluation.score.value"] = float(fields.pop("value"))
        return f"reward {record.name}", out, None


def _other(trace: _Trace, record: Record, fields: dict[str, Any]) -> tuple[str, dict[str, Any], str | None]:
    named = getattr(record, "technique", None) or getattr(record, "name", None)
    return f"{record.__struct_config__.tag} {named or ''}".strip(), {}, None


_Says = Callable[[_Trace, Any, dict[str, Any]], tuple[str, dict[str, Any], str | None]]
_SAYS: dict[type[Record], _Says] = {
    Start: _Trace.start,
    StepStart: _Trace.step,
    Context: _Trace.context,
    LLMCall: _Trace.call,
    Action: _Trace.action,
    Reward: _Trace.reward,
}


def _says(record: Record) -> _Says:
    return _SAYS.get(type(record), _other)


def _moment(record: AnyRecord) -> int:
    return next((told for told in (record.source_time, record.time) if told is not None and _is_time(told)), 0)


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**62


def _hash(size: int, *parts: str) -> str:
    """An id of so many bytes, in hex."""
    return hashlib.sha256(encode(parts)).digest()[:size].hex()


def _messages(messages: list[dict[str, Any]], reasons: list[str | None] | None = None) -> str:
    made = [chat.parts(message) for message in messages]
    for message, reason in zip(made, reasons or [], strict=False):
        message["finish_reason"] = reason or ""
    return encode(made).decode()


def _answer(choice: dialects.Choice) -> dict[str, Any]:
    content = choice.message.get("content")
    calls = [chat.call(c.id, c.name, c.arguments) for c in choice.tool_calls]
    return {"role": "assistant", "content": content if isinstance(content, list) else choice.text or None, "tool_calls": calls}


def _tokens(record: LLMCall, number: int, choice: dialects.Choice) -> dict[str, Any]:
    stated = record.tokens[number].versions if number < len(record.tokens) else []
    told = {"token_ids": choice.token_ids, "logprobs": choice.logprobs, "versions": stated or None}
    return {name: value for name, value in told.items() if value is not None}


def _flat(tool: Any) -> Any:
    """A tool of OpenAI's chat in GenAI's shape."""
    function = obj(tool).get("function")
    return {"type": "function", **function} if isinstance(function, dict) else tool


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and own.is_plain(one) for one in value)


def _typed(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP has them; what is None is left out."""
    return [{"key": _text(name), "value": _value(value)} for name, value in attributes.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int() if own.is_plain(value):
            return {"intValue": str(value)}
        case float() if own.is_plain(value):
            return {"doubleValue": value}
        case str():
            return {"stringValue": _text(value)}
        case list() if all(isinstance(one, str) for one in value):
            return {"arrayValue": {"values": [{"stringValue": _text(one)} for one in value]}}
        case _:
            return {"stringValue": encode(value).decode()}


def _text(value: str) -> str:
    """A text without half characters, which UTF-8 has no place for."""
    return value.encode("utf-8", "replace").decode()
