"""OpenHands V0 events -> a session. A step is an event of the agent's; a call is a distinct `model_response`."""

from __future__ import annotations

from typing import Any

from ..codec import content_hash
from ..types import End, LLMCall, Note, Start
from .session import Session, parse_time
from .shape import added, arguments, dicts, integer, items, number, obj, text, without
from .transcript import Transcript

_NO_STEP = ("system", "change_agent_state", "recall", "null")


def from_events(
    format: str, events: list[Any], source: dict[str, Any], *, key: list[Any] | None = None, instruction: Any = None
) -> Session:
    """A session from V0 events, in order; missing sources (2024) are told from the kind of event."""
    found = dicts(events)
    task = next((_said(e) for e in found if e.get("action") == "message" and e.get("source") in ("user", None)), None)
    task = task if task is not None else instruction
    system = next((e for e in found if e.get("action") == "system"), {})
    started = next((t for e in found if (t := parse_time(e.get("timestamp"))) is not None), None)
    session = Session(format, *(key or []), content_hash(found[:2]), started=started)
    if len(found) < len([e for e in events if e is not None]):
        session.warn("events that are no object", len(events) - len(found))
    args = obj(system.get("args"))
    config = obj(obj(source.get("metadata")).get("llm_config"))
    model = text(config.get("model"))
    session.add(
        Start(
            task=task,
            agent="openhands",
            agent_version=text(args.get("openhands_version")),
            model=model,
            metadata={"source": source},
            source_time=started,
        )
    )
    reader = _Reader(session, Transcript(session, model=model, tools=items(args.get("tools")) or None))
    if text(args.get("content")):
        reader.transcript.saw({"role": "system", "content": args["content"]})
    for position, event in enumerate(found):
        reader.event(event, first_message=position == 0)
    reader.end(source)
    return session


def _said(event: dict[str, Any]) -> Any:
    return obj(event.get("args")).get("content", event.get("content"))


class _Reader:
    def __init__(self, session: Session, transcript: Transcript) -> None:
        self.session = session
        self.transcript = transcript
        self.calls: dict[str, Any] = {}
        self.seen_user = False
        self.last_action: str | None = None
        self.finish: dict[str, Any] | None = None
        self.metrics: dict[str, Any] = {}

    def event(self, event: dict[str, Any], first_message: bool) -> None:
        when = parse_time(event.get("timestamp"))
        action = event.get("action")
        metrics = obj(event.get("llm_metrics"))
        self.metrics = metrics or self.metrics
        source = event.get("source")
        if source is None and isinstance(action, str):  # events of 2024 that do not say who acted
            source = "user" if action == "message" and not self.seen_user else "agent"
        if isinstance(action, str) and source == "agent" and action not in _NO_STEP:
            self._action(event, action, when)
        elif action == "message" and source == "user":
            self.seen_user = True
            self.transcript.saw({"role": "user", "content": _said(event)})
        elif isinstance(event.get("observation"), str) and event["observation"] != "recall":
            self._observation(event, when)
        elif action != "system" and not (event.get("observation") == "null" or action == "null"):
            name = f"{'action' if action else 'observation'}:{action or event.get('observation')}"
            self.session.add(Note(name=name, data=without(event, "timestamp"), source_time=when))

    def _action(self, event: dict[str, Any], action: str, when: int | None) -> None:
        transcript = self.transcript
        about = obj(event.get("tool_call_metadata"))
        body = obj(about.get("model_response"))
        step = transcript.begin(when)
        call = self.calls.get(str(body.get("id"))) if body.get("id") is not None else None
        message = next((obj(c.get("message")) for c in dicts(body.get("choices"))), {})
        if body and call is None:
            usage = obj(body.get("usage"))
            call = self.session.add(_call_record(transcript, step, body, usage, when))
            self.calls[str(body.get("id"))] = call
            transcript.history.append(message)
        elif not body and action == "message":
            call = transcript.replied({"role": "assistant", "content": _said(event)}, begin=False, when=when)
        given = obj(event.get("args")) or without(
            event, "id", "timestamp", "source", "message", "action", "tool_call_metadata", "llm_metrics", "cause"
        )
        if action == "finish":
            self.finish = {**given, "message": event.get("message")}
        if action == "message" and not about:
            return
        name = text(about.get("function_name")) or action
        asked = next((c for c in dicts(message.get("tool_calls")) if c.get("id") == about.get("tool_call_id")), None)
        wanted = arguments(obj(obj(asked).get("function")).get("arguments")) if asked else given
        id = text(about.get("tool_call_id")) or f"event-{event.get('id')}"
        extra = {"action": action, "args": given} if asked else None
        record = transcript.acted(name, wanted, id=id, call=call, when=when, extra=extra)
        if not about:
            self.session.replace(record, tool_call_id=None)
        self.last_action = id

    def _observation(self, event: dict[str, Any], when: int | None) -> None:
        about = obj(event.get("tool_call_metadata"))
        extras = obj(event.get("extras"))
        code = integer(extras.get("exit_code", obj(extras.get("metadata")).get("exit_code")))
        ok = False if event["observation"] == "error" else None if code is None or code == -1 else code == 0
        result = event.get("content")
        id = text(about.get("tool_call_id"))
        cause = event.get("cause")
        keys = [id, f"event-{cause}" if cause is not None else None, self.last_action if cause is None else None]
        changes = {"result": result, "ok": ok, "extra": None}
        if extras:
            changes["extra"] = {"observation": event["observation"], **extras}
        else:
            del changes["extra"]
        if not any(k and self.transcript.result(k, **changes) for k in keys):
            self.session.add(Note(name=f"observation:{event['observation']}", data=without(event, "timestamp"), source_time=when))
        if id:
            self.transcript.saw({"role": "tool", "tool_call_id": id, "content": result})
        elif result is not None:
            self.transcript.saw({"role": "user", "content": result}, observed=False)

    def end(self, source: dict[str, Any]) -> None:
        error = source.get("error")
        if self.finish is None and not error and "instruction" not in source:
            return
        metrics: dict[str, Any] = {}
        used = obj(self.metrics.get("accumulated_token_usage"))
        if used:
            metrics["accumulated_token_usage"] = used
        cost = number(self.metrics.get("accumulated_cost")) or number(obj(source.get("metrics")).get("accumulated_cost"))
        if cost is not None:
            metrics["cost"] = cost
        finish = self.finish or {}
        answer = finish.get("final_thought") or finish.get("thought") or obj(finish.get("outputs")).get("content") or finish.get("message")
        status: Any = "completed" if self.finish is not None else "failed" if error else "truncated"
        self.session.add(End(status=status, answer=answer, error=error, metrics=metrics))


def _call_record(transcript: Transcript, step: int, body: dict[str, Any], usage: dict[str, Any], when: int | None) -> LLMCall:
    request: dict[str, Any] = {"messages": list(transcript.history)}
    if transcript.tools:
        request["tools"] = transcript.tools
    return LLMCall(
        step=step,
        source_time=when,
        origin="transcript",
        dialect="openai.chat",
        model=text(body.get("model")) or transcript.model,
        request=request,
        response=body,
        usage=usage or None,
        prompt_tokens=added(integer(usage.get("prompt_tokens"))),
        completion_tokens=integer(usage.get("completion_tokens")),
        finish_reason=next((text(c.get("finish_reason")) for c in dicts(body.get("choices"))), None),
    )
