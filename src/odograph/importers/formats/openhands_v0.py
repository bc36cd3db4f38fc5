"""OpenHands V0 events -> a session. A step is an event of the agent's; a call is a distinct `model_response`.

An action that came of a native tool call has the model's whole response beside it. Where tools were written as text, and in
2024, it has not: then the action and its thought are known and the model's own words are not, so later prompts are not rebuilt.
"""

from __future__ import annotations

from typing import Any

from ...codec import content_hash
from ...prefix import Prefix
from ...shape import arguments, dicts, integer, items, nanoseconds, number, obj, text, without
from ...types import Action, Context, End, LLMCall, Note, Start, Status, StepStart
from ..session import Session, observed_where, parse_time

_NO_STEP = ("system", "change_agent_state", "recall")
_ENDED: dict[str, Status] = {
    "finished": "completed",
    "error": "failed",
    "rejected": "failed",
    "stopped": "cancelled",
    "rate_limited": "failed",
}
_FIELDS = ("id", "timestamp", "source", "message", "action", "observation", "cause", "args", "tool_call_metadata", "llm_metrics")


def from_events(format: str, history: list[Any], source: dict[str, Any], *, key: list[Any] | None = None) -> Session:
    """A session from V0 events in order, or from pairs of action and observation. `key`: what tells it from others."""
    paired = any(isinstance(entry, list) for entry in history)
    events = [e for entry in history for e in (entry if isinstance(entry, list) else [entry])]
    found = dicts(events)
    first = next((e for e in found if e.get("action") == "message" and _source(e, False) == "user"), None)
    system = obj(next((e for e in found if e.get("action") == "system"), {}).get("args"))
    started = next((t for e in found if (t := parse_time(e.get("timestamp"))) is not None), None)
    config = obj(obj(source.get("metadata")).get("llm_config"))
    # the first event tells one run from another where it has a time
    first_ones = found[: 1 if found and found[0].get("timestamp") is not None else 2]
    session = Session(format, *(key or [content_hash(first_ones)]), started=started)
    if len(found) < len(events):
        session.warn("events that are no object", len(events) - len(found))
    session.add(
        Start(
            task=_said(first) if first else source.get("instruction"),
            agent="openhands",
            agent_version=text(system.get("openhands_version")),
            model=text(config.get("model")) or text(obj(source.get("metadata")).get("model_name")),
            metadata={"source": source},
            source_time=started,
        )
    )
    reader = _Reader(session, items(system.get("tools")), obj(source.get("metrics")), paired)
    for event in found:
        reader.event(event)
    reader.end(source)
    return session


def _said(event: dict[str, Any]) -> Any:
    return obj(event.get("args")).get("content", event.get("content"))


def _source(event: dict[str, Any], user_was_heard: bool) -> Any:
    """Who acted. Events of the 2024 resolver do not say it: there the first message is the user's."""
    if event.get("source") is not None or "source" in event:
        return event.get("source")
    return "user" if event.get("action") == "message" and not user_was_heard else "agent"


class _Reader:
    def __init__(self, session: Session, tools: list[Any], stated: dict[str, Any], paired: bool) -> None:
        self.session = session
        self.tools = tools
        self.paired = paired
        self.model = next((r.model for r in session.records if isinstance(r, Start)), None)
        self.usages = _by_response(stated.get("token_usages"))
        self.latencies = _by_response(stated.get("response_latencies"))
        self.metrics = stated
        self.step = -1
        #: The conversation, each message with the event that it came of.
        self.history: list[tuple[Any, dict[str, Any]]] = []
        #: The same without the events: what requests are prefixes of. A condenser begins another.
        self.sent: list[Any] = []
        #: Whether the conversation holds all that the model said so far.
        self.whole = True
        self.user_was_heard = False
        #: What the next step observes: what a person said, and when.
        self.heard: list[tuple[Any, int | None]] = []
        self.calls: dict[str, LLMCall] = {}
        self.actions: dict[str, Action] = {}
        self.last: Action | None = None
        self.finish: dict[str, Any] | None = None
        self.state: str | None = None

    def _say(self, said: tuple[Any, dict[str, Any]]) -> None:
        self.history.append(said)
        self.sent.append(said[1])

    def event(self, event: dict[str, Any]) -> None:
        when = parse_time(event.get("timestamp"))
        action, observation = event.get("action"), event.get("observation")
        source = _source(event, self.user_was_heard)
        self.metrics = obj(event.get("llm_metrics")) or self.metrics
        if isinstance(action, str):
            if source == "agent" and action not in _NO_STEP:
                self._decision(event, action, when)
            elif action == "message":
                self.user_was_heard = True
                self._user(event, when)
            elif action == "system":
                if text(_said(event)):
                    self._say((event.get("id"), {"role": "system", "content": _said(event)}))
            elif action != "recall":  # its observation has the query's outcome
                self._note(event, f"action:{action}", when)
        elif observation == "recall":
            self._recall(event, when)
        elif isinstance(observation, str) and observation != "null":
            self._observation(event, observation, when)
        elif observation is None:
            self._note(event, "event", when)

    def _note(self, event: dict[str, Any], name: str, when: int | None) -> None:
        step = self.step if self.step >= 0 else None
        self.session.add(Note(name=name, step=step, data=without(event, "timestamp"), source_time=when))

    def _user(self, event: dict[str, Any], when: int | None) -> None:
        images = items(obj(event.get("args")).get("image_urls"))
        said = [{"type": "text", "text": _said(event)}, *({"type": "image_url", "image_url": {"url": i}} for i in images)]
        self.heard.append((said if images else _said(event), when))
        self._say((event.get("id"), {"role": "user", "content": said if images else _said(event)}))
        if self.paired:  # a pair is a step of that time's own count, whoever acted
            self._begin(when)

    def _begin(self, when: int | None) -> None:
        self.step += 1
        told, self.heard = self.heard, []
        heard, where = [said for said, _ in told], observed_where([], [at for _, at in told])
        observation = heard[0] if len(heard) == 1 else heard or None
        self.session.add(StepStart(step=self.step, observation=observation, source_time=when, extra=where), "turn", self.step)

    def _recall(self, event: dict[str, Any], when: int | None) -> None:
        extras, told = obj(event.get("extras")), event.get("content")
        self.session.add(
            Context(
                provider="recall",
                data=extras or told,
                extra={"content": told} if extras and told else None,
                purpose=text(extras.get("recall_type")),
                step=self.step if self.step >= 0 else None,
                source_time=when,
            )
        )

    def _decision(self, event: dict[str, Any], action: str, when: int | None) -> None:
        self._begin(when)
        about = obj(event.get("tool_call_metadata"))
        body = obj(about.get("model_response"))
        given = obj(event.get("args")) or without(event, *_FIELDS)
        if action == "finish":
            self.finish = {"message": event.get("message"), **given}
        call: LLMCall | None = None
        if body:
            call = self.calls.get(str(body.get("id"))) if body.get("id") is not None else None
            if call is None:
                call = self._call(event, body, when)
        elif action == "message":
            call = self._call(event, None, when)
        elif action in ("condensation", "condensation_request"):
            self._condense(given, event.get("id"))
        else:
            self.whole = False
        if action in ("condensation", "condensation_request", "null"):
            self._note(event, f"action:{action}", when)
            return
        if action == "message" and not about:
            return
        asked: dict[str, Any] = {}
        for choice in dicts(body.get("choices")):
            calls = dicts(obj(choice.get("message")).get("tool_calls"))
            asked = next((c for c in calls if c.get("id") == about.get("tool_call_id")), asked)
        function = obj(asked.get("function"))
        extra: dict[str, Any] | None = None
        if function:
            extra = {"action": action, "args": given}
        self.last = self.session.add(
            Action(
                step=self.step,
                name=text(about.get("function_name")) or action,
                arguments=arguments(function.get("arguments")) if function else given,
                llm_call=call.id if call else None,
                tool_call_id=text(about.get("tool_call_id")),
                extra=extra,
                source_time=when,
            )
        )
        for key in (about.get("tool_call_id"), event.get("id")):
            if isinstance(key, (str, int)):
                self.actions[f"{type(key).__name__}:{key}"] = self.last

    def _call(self, event: dict[str, Any], body: dict[str, Any] | None, when: int | None) -> LLMCall:
        """A reply of the model: its whole body, or the text of a message, whose body OpenHands does not keep."""
        choices = dicts(obj(body).get("choices"))
        message = next((obj(c.get("message")) for c in choices), {}) if body else {"role": "assistant", "content": _said(event)}
        id = text(obj(body).get("id"))
        usage = obj(obj(body).get("usage")) or self.usages.get(id or "") or {}
        request: dict[str, Any] | None = None
        if self.whole:
            request = {"messages": Prefix(self.sent)}
            if self.tools:
                request["tools"] = self.tools
        call = self.session.add(
            LLMCall(
                step=self.step,
                source_time=when,
                origin="transcript",
                dialect="openai.chat",
                model=text(obj(body).get("model")) or self.model,
                request=request,
                response=body or message,
                usage=usage or None,
                prompt_tokens=integer(usage.get("prompt_tokens")),
                completion_tokens=integer(usage.get("completion_tokens")),
                finish_reason=next((text(c.get("finish_reason")) for c in choices), None),
                duration=nanoseconds(self.latencies.get(id or "", {}).get("latency")),
            )
        )
        if id is not None:
            self.calls[id] = call
        if message:
            self._say((event.get("id"), message))
        return call

    def _condense(self, given: dict[str, Any], id: Any) -> None:
        """The condenser forgot events, and put a summary of them into the conversation."""
        forgotten = {i for i in items(given.get("forgotten_event_ids")) if isinstance(i, int)}
        first, last = integer(given.get("forgotten_events_start_id")), integer(given.get("forgotten_events_end_id"))
        at = integer(given.get("summary_offset"))

        def gone(event: Any) -> bool:
            inside = first is not None and last is not None and isinstance(event, int) and first <= event <= last
            return inside or (isinstance(event, int) and event in forgotten)

        self.history = [(i, m) for i, m in self.history if not gone(i)]
        if text(given.get("summary")):
            place = len(self.history) if at is None or at < 0 else min(at, len(self.history))
            self.history.insert(place, (id, {"role": "user", "content": given["summary"]}))
        self.sent = [m for _, m in self.history]

    def _observation(self, event: dict[str, Any], kind: str, when: int | None) -> None:
        extras = obj(event.get("extras")) or without(event, *_FIELDS, "content", "success", "extras")
        if kind == "agent_state_changed":
            self.state = text(extras.get("agent_state")) or self.state
        about = obj(event.get("tool_call_metadata"))
        id, cause = about.get("tool_call_id"), event.get("cause")
        keys = [f"{type(k).__name__}:{k}" for k in (id, cause) if isinstance(k, (str, int))]
        action = next((self.actions[k] for k in keys if k in self.actions), None)
        if action is None and not keys and "id" not in event:  # neither did the resolver of 2024 say what answers what
            action = self.last
        content = event.get("content")
        if action is None:
            self._note(event, f"observation:{kind}", when)
            return
        code = integer(extras.get("exit_code", obj(extras.get("metadata")).get("exit_code")))
        ok = None if code is None or code == -1 else code == 0
        success = event.get("success")
        if isinstance(success, bool):
            ok = success
        took = when - action.source_time if when is not None and action.source_time is not None else -1
        self.session.replace(
            action,
            result=content,
            ok=False if kind == "error" else ok,
            error=content if kind == "error" else None,
            duration=took if took >= 0 else None,
            extra={**(action.extra or {}), "observation": {"observation": kind, **extras}},
        )
        sent = (
            {"role": "tool", "tool_call_id": id, "content": content} if id is not None else {"role": "user", "content": content}
        )
        self._say((event.get("id"), sent))

    def end(self, source: dict[str, Any]) -> None:
        if self.heard:
            messages = [{"role": "user", "content": said} for said, _ in self.heard]
            note = Note(name="unanswered", data={"messages": messages}, source_time=self.heard[0][1])
            self.session.add(note, "turn", self.step + 1)  # where an answer comes later, its step takes this place
        error = source.get("error") or None
        status = _ENDED.get(self.state or "")
        if self.finish is not None:
            status = "completed"
        elif error or (status is None and "instruction" in source):  # a line of results is a finished artefact
            status = "failed" if error else "truncated"
        if status is None:
            return
        used = obj(self.metrics.get("accumulated_token_usage"))
        metrics: dict[str, Any] = {
            "accumulated_token_usage": used or None,
            "cost": number(self.metrics.get("accumulated_cost")),
            "agent_state": self.state,
        }
        if not any(r.prompt_tokens is not None for r in self.session.records if isinstance(r, LLMCall)):
            metrics |= {name: integer(used.get(name)) for name in ("prompt_tokens", "completion_tokens")}
        finish = self.finish or {}
        answers = (
            finish.get("final_thought"),
            finish.get("thought"),
            obj(finish.get("outputs")).get("content"),
            finish.get("message"),
        )
        self.session.add(
            End(
                status=status,
                answer=next((a for a in answers if a), None),
                error=error,
                metrics={k: v for k, v in metrics.items() if v is not None},
            )
        )


def _by_response(entries: Any) -> dict[str, dict[str, Any]]:
    return {e["response_id"]: e for e in dicts(entries) if text(e.get("response_id"))}
