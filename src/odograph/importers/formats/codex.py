"""Codex rollouts: JSON lines `{timestamp, type, payload}`, or, in the oldest files, the bare items.

`event_msg` lines repeat what `response_item` lines say: those twins are left out. One model call is what stands between
two `token_count` events whose totals differ; where a file has none, what stands between two inputs. A step is a tool call.
A fork's file begins with the replayed parent: it is part of the session, as it was for the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...types import Action, LLMCall, Note, Start, StepStart
from ..session import Lines, Session, parse_time
from ..shape import arguments, content_text, integer, items, obj, text, without

NAME = "codex"
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "web_search_call")
_SERVER = ("tool_search_call", "image_generation_call")  # the backend's own doing: part of the reply, no action of the agent
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output")
_TWINS = ("user_message", "agent_message", "agent_reasoning", "agent_reasoning_raw_content", "agent_reasoning_section_break")
_ITEMS = (*_CALLS, *_SERVER, *_OUTPUTS, "message", "reasoning")


def recognise(path: Path, head: bytes) -> bool:
    """A `session_meta` line, or an old file's first line with `id`, `timestamp` and `instructions`."""
    for number, line in enumerate(head.split(b"\n")[:20]):
        try:
            value = loads(line)
        except InvalidInput:
            if line.startswith(b'{"timestamp"') and b'"type":"session_meta"' in line.replace(b" ", b""):
                return True
            continue
        if not isinstance(value, dict):
            return False
        if value.get("type") == "session_meta" and "payload" in value:
            return True
        if value.get("type") in ("event_msg", "response_item", "turn_context") and isinstance(value.get("payload"), dict):
            return True
        if number == 0 and {"id", "timestamp", "instructions"} <= value.keys() and "type" not in value:
            return True
    return False


class _Reader:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.history: list[Any] = []
        self.reply: list[Any] = []
        self.inputs: list[Any] = []
        self.actions: dict[str, Action] = {}
        self.model: str | None = None
        self.unpriced: LLMCall | None = None
        self.credit: dict[str, Any] | None = None
        self.instructions: str | None = None
        self.context: dict[str, Any] = {}
        self.total: int | None = None
        self.step = -1
        self.results: dict[str | None, tuple[Any, bool | None, float | None]] = {}
        self.when: int | None = None

    def item(self, item: dict[str, Any], when: int | None) -> None:
        kind = item.get("type")
        if kind in _OUTPUTS:
            self._output(item, when)
        elif kind in _CALLS or kind in _SERVER or kind == "reasoning" or (kind == "message" and item.get("role") == "assistant"):
            self.reply.append(item)
            self.when = self.when if self.when is not None else when
            return
        elif kind == "message":
            self.inputs.append(item.get("content"))
            self._input(item)
        else:
            self.session.add(Note(name=f"response_item:{kind}", data=item, source_time=when))

    def _input(self, item: dict[str, Any]) -> None:
        """An item that the model sees next: after those of the reply that is under way."""
        if self.reply:
            self.reply.append(item)
        else:
            self.history.append(item)

    def _output(self, item: dict[str, Any], when: int | None) -> None:
        self._input(item)
        id = text(item.get("call_id"))
        result = item.get("output") if "output" in item else without(item, "type", "id", "call_id", "status")
        ok, seconds = _outcome(result)
        known = self.actions.get(id or "")
        if known is not None:
            took = round(seconds * 1e9) if seconds is not None else None
            self.session.replace(known, result=result, ok=ok, duration=took)
        else:
            self.results[id] = (result, ok, seconds)

    def counted(self, usage: dict[str, Any]) -> None:
        """The counts of a reply: of the one under way, of the last one, or, as older versions write it, of the next."""
        if self.reply:
            credit, self.credit = self.credit, None
            self.close(credit or usage)
            self.credit = usage if credit else None
        elif self.unpriced is not None:
            self._price(self.unpriced, usage)
            self.unpriced = None
        else:
            self.credit = usage

    def close(self, usage: dict[str, Any] | None = None) -> None:
        """The reply that was under way becomes a call, with its tool calls as actions."""
        if usage is None:
            usage, self.credit = self.credit, None
        generated = [i for i in self.reply if i.get("type") not in _OUTPUTS and i.get("role") in (None, "assistant")]
        if not generated:
            self.history += self.reply
            self.reply = []
            if not usage:
                return
        calls = [i for i in generated if i.get("type") in _CALLS]
        observed, self.inputs = self.inputs, []
        first = self.step + 1 if calls else None
        if first is not None:
            self.session.add(
                StepStart(step=first, observation=observed[0] if len(observed) == 1 else observed or None, source_time=self.when)
            )
        request: dict[str, Any] = {"input": list(self.history)}
        if self.instructions:
            request["instructions"] = self.instructions
        if self.model:
            request["model"] = self.model
        thinking = [p.get("text") for i in generated if i.get("type") == "reasoning" for p in map(obj, items(i.get("summary")))]
        call = self.session.add(
            LLMCall(
                step=first,
                source_time=self.when,
                origin="transcript",
                dialect="openai.responses",
                model=self.model,
                request=request,
                response={"output": generated},
                reasoning="\n".join(t for t in thinking if isinstance(t, str)) or None,
            )
        )
        if usage:
            self._price(call, usage)
        self.unpriced = None if usage else call
        results, self.results = self.results, {}
        index = first
        for item in calls:
            self.step += 1
            if self.step != first:
                self.session.add(StepStart(step=self.step, source_time=self.when))
            index = self.step
            id = text(item.get("call_id")) or text(item.get("id"))
            given = next((item[k] for k in ("arguments", "input", "action") if item.get(k) is not None), None)
            result, ok, seconds = results.pop(id, (None, None, None))
            action = self.session.add(
                Action(
                    step=index,
                    source_time=self.when,
                    name=str(item.get("name") or str(item.get("type")).removesuffix("_call")),
                    arguments=arguments(given),
                    result=result,
                    ok=ok,
                    duration=round(seconds * 1e9) if seconds is not None else None,
                    llm_call=call.id,
                    tool_call_id=id,
                )
            )
            if id:
                self.actions[id] = action
        for id, (result, ok, _) in results.items():
            self.session.warn("tool results that no call in the file asked for")
            data = {"call_id": id, "output": result, "ok": ok}
            self.session.add(Note(name="result_without_call", data=data, step=index, source_time=self.when))
        self.history += self.reply
        self.reply = []
        self.when = None

    def _price(self, call: LLMCall, usage: dict[str, Any]) -> None:
        counts = {"prompt_tokens": integer(usage.get("input_tokens")), "completion_tokens": integer(usage.get("output_tokens"))}
        self.session.replace(call, usage=usage, **counts)


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it has none."""
    lines = Lines(path)
    values = [v for _, v in lines if isinstance(v, dict)]
    events = [_event(v) for v in values]
    meta = next((p for kind, p, _ in events if kind == "session_meta"), {})
    if not any(kind in ("response_item", "event_msg") for kind, _, _ in events):
        raise InvalidInput("a Codex file without an item or event")
    started = parse_time(meta.get("timestamp")) or next((w for _, _, w in events if w is not None), None)
    session = Session(NAME, meta.get("id"), content_hash(values[0]), started=started)
    for problem in lines.problems:
        session.warn(problem)
    if lines.glued:
        session.warn("lines that held several objects", lines.glued)
    user = next((p.get("message") for k, p, _ in events if k == "event_msg" and p.get("type") == "user_message"), None)
    if user is None:
        prompts = (content_text(p.get("content")) for k, p, _ in events if k == "response_item" and p.get("role") == "user")
        user = next((p for p in prompts if p and not p.startswith("<")), None)
    start = session.add(
        Start(
            task=user,
            agent="codex",
            agent_version=text(meta.get("cli_version")),
            source_time=started,
            metadata={"source": {"format": NAME, "path": path.name, "session": meta.get("id"), **without(meta, "id")}},
        )
    )
    reader = _Reader(session)
    instructions = meta.get("instructions") or obj(meta.get("base_instructions")).get("text")
    reader.instructions = text(instructions)
    totals: dict[str, Any] = {}
    for kind, payload, when in events:
        if kind == "response_item":
            if payload.get("type") == "message" and payload.get("role") != "assistant":
                reader.close()
            reader.item(payload, when)
        elif kind == "turn_context":
            reader.model = text(payload.get("model")) or reader.model
            session.add(Note(name="turn_context", data=payload, source_time=when))
        elif kind == "compacted":
            reader.close()
            reader.history = list(items(payload.get("replacement_history")))
            session.add(Note(name="compacted", data=payload, source_time=when))
        elif kind == "event_msg" and payload.get("type") == "token_count":
            info = obj(payload.get("info"))
            total = obj(info.get("total_token_usage"))
            if info and total.get("total_tokens") != reader.total:
                reader.total = total.get("total_tokens")
                totals = total
                reader.counted(obj(info.get("last_token_usage")))
        elif kind == "event_msg" and payload.get("type") in _TWINS:
            continue
        elif kind != "session_meta" or payload is not meta:
            session.add(Note(name=kind if kind != "event_msg" else str(payload.get("type")), data=payload, source_time=when))
    if not any(i.get("type") != "reasoning" for i in reader.reply):
        # the file ends while the model thinks: a reply that never came is no call
        for item in reader.reply:
            session.add(Note(name="unfinished_reply", data=item, source_time=reader.when))
        reader.reply = []
    reader.close()
    known = {
        n: c
        for n, k in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        if (c := integer(totals.get(k))) is not None
    }
    if known:
        session.replace(start, metadata={"source": {**start.metadata["source"], "totals": known}})
    yield session


def _event(value: dict[str, Any]) -> tuple[str, dict[str, Any], int | None]:
    when = parse_time(value.get("timestamp"))
    if isinstance(value.get("payload"), dict):
        return str(value.get("type")), value["payload"], when
    if value.get("type") in _ITEMS:
        return "response_item", value, when
    if "type" not in value and "id" in value:
        return "session_meta", value, when
    return str(value.get("type") or value.get("record_type")), value, when


def _outcome(output: Any) -> tuple[bool | None, float | None]:
    """Whether a command succeeded and how long it took, where its output says so."""
    data = arguments(output) if isinstance(output, str) else output
    about = obj(obj(data).get("metadata"))
    code = integer(about.get("exit_code"))
    seconds = about.get("duration_seconds")
    success = obj(data).get("success")
    ok = code == 0 if code is not None else success if isinstance(success, bool) else None
    return ok, float(seconds) if isinstance(seconds, (int, float)) and seconds >= 0 else None
