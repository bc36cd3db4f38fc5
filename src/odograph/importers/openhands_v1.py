"""OpenHands V1 events -> a session. A step is an `ActionEvent`; a call is a distinct `llm_response_id`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..codec import content_hash, loads
from ..errors import InvalidInput
from ..types import Action, End, LLMCall, Note, Start, StepStart
from .session import Session, parse_time
from .shape import arguments, content_text, dicts, integer, items, number, obj, text, without

_ENDED: dict[str, Any] = {"finished": "completed", "error": "failed", "stuck": "failed"}


def from_folder(path: Path, folder: Path) -> Session:
    """A session from a folder with `events/` and, where it is there, `base_state.json`."""
    events: list[Any] = []
    bad: list[str] = []
    for file in sorted((folder / "events").glob("*.json")):
        try:
            events.append(loads(file.read_bytes()))
        except InvalidInput:
            bad.append(file.name)
    state: dict[str, Any] = {}
    for name in ("base_state.json", "meta.json"):
        if (folder / name).is_file():
            try:
                state = {**obj(loads((folder / name).read_bytes())), **state}
            except InvalidInput:
                bad.append(name)
    if not dicts(events):
        raise InvalidInput("an OpenHands folder without a readable event")
    source = {"format": "openhands", "path": path.name, "session": state.get("id")}
    session = from_events("openhands", events, source, state=state)
    for name in bad:
        session.warn(f"damaged file {name}")
    return session


def from_events(
    format: str, events: list[Any], source: dict[str, Any], *, state: dict[str, Any] | None = None, instruction: Any = None
) -> Session:
    """A session from V1 events, in order."""
    state = state or {}
    found = dicts(events)
    started = next((t for e in found if (t := parse_time(e.get("timestamp"))) is not None), None)
    first = next((e for e in found if e.get("kind") == "MessageEvent" and e.get("source") == "user"), {})
    task = content_text(obj(first.get("llm_message")).get("content")) or instruction
    session = Session(format, source.get("session"), source.get("instance_id"), content_hash([task, found[:1]]), started=started)
    if len(found) < len(events):
        session.warn("events that are no object", len(events) - len(found))
    llm = obj(obj(state.get("agent")).get("llm")) or obj(obj(source.get("metadata")).get("llm"))
    reader = _Reader(session, text(llm.get("model")))
    about = {k: v for k, v in {**source, **without(state, "id", "agent", "stats")}.items() if v is not None}
    metadata = {"source": about}
    session.add(Start(task=task, agent="openhands", model=reader.model, metadata=metadata, source_time=started))
    if not first and isinstance(instruction, str):
        reader.history.append((None, {"role": "user", "content": instruction}))
    for event in found:
        reader.event(event)
    _finish(session, reader, state, source)
    return session


def _finish(session: Session, reader: _Reader, state: dict[str, Any], source: dict[str, Any]) -> None:
    stats = obj(state.get("stats"))
    services = obj(stats.get("service_to_metrics")) or obj(stats.get("usage_to_metrics"))
    default = obj(services.get("default")) or obj(services.get("agent"))
    used = obj(default.get("accumulated_token_usage")) or obj(obj(source.get("metrics")).get("accumulated_token_usage"))
    metrics: dict[str, Any] = {
        "prompt_tokens": integer(used.get("prompt_tokens")),
        "completion_tokens": integer(used.get("completion_tokens")),
        "cost": number(default.get("accumulated_cost")),
        "agent_status": state.get("agent_status") or state.get("execution_status"),
    }
    metrics = {k: v for k, v in metrics.items() if v is not None}
    status = _ENDED.get(str(metrics.get("agent_status")))
    if status is None and reader.answer is not None:
        status = "completed"
    if status is None and (source.get("error") or "instruction" in source):
        status = "failed" if source.get("error") else "truncated"
    if status is not None:
        session.add(End(status=status, answer=reader.answer, error=source.get("error"), metrics=metrics))
    elif metrics:
        session.add(Note(name="metrics", data=metrics))


class _Reader:
    def __init__(self, session: Session, model: str | None) -> None:
        self.session = session
        self.model = model
        self.history: list[tuple[str | None, Any]] = []
        self.tools: list[Any] = []
        self.calls: dict[str, LLMCall] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.actions: dict[str, Action] = {}
        self.observed: list[Any] = []
        self.step = -1
        self.answer: Any = None

    def event(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        when = parse_time(event.get("timestamp"))
        if kind == "SystemPromptEvent":
            self.tools = items(event.get("tools"))
            self.history.append((text(event.get("id")), {"role": "system", "content": [event.get("system_prompt")]}))
        elif kind == "MessageEvent":
            message = without(obj(event.get("llm_message")), *_SWITCHES)
            if event.get("source") == "agent":
                self._call(event, message, when, None)
            else:
                self.observed.append(content_text(message.get("content")))
                self.history.append((text(event.get("id")), message))
        elif kind == "ActionEvent":
            self._action(event, when)
        elif "action_id" in event or "tool_call_id" in event:
            self._observation(event, when)
        else:
            if kind == "Condensation":
                gone = set(map(str, items(event.get("forgotten_event_ids"))))
                self.history = [(i, m) for i, m in self.history if i not in gone]
                if text(event.get("summary")):
                    self.history.append((text(event.get("id")), {"role": "user", "content": event["summary"]}))
            self.session.add(Note(name=str(kind), data=without(event, "timestamp", "kind"), source_time=when))

    def _call(self, event: dict[str, Any], message: dict[str, Any], when: int | None, step: int | None) -> LLMCall | None:
        id = text(event.get("llm_response_id"))
        if id is not None and id in self.calls:
            asked = message.get("tool_calls") or []
            held = self.messages[id]
            held["tool_calls"] = [*(held.get("tool_calls") or []), *asked]
            return self.calls[id]
        request: dict[str, Any] = {"messages": [m for _, m in self.history]}
        if self.tools:
            request["tools"] = self.tools
        reasoning = text(event.get("reasoning_content")) or text(message.get("reasoning_content"))
        call = self.session.add(
            LLMCall(
                step=step,
                source_time=when,
                origin="transcript",
                dialect="openai.chat",
                model=self.model,
                request=request,
                response=message,
                reasoning=reasoning,
                extra={"llm_response_id": id} if id else None,
            )
        )
        # not the object of the response: more tool calls of the same reply may follow, and only then is it sent
        self.history.append((text(event.get("id")), dict(message)))
        if id is not None:
            self.calls[id] = call
            self.messages[id] = message
        return call

    def _action(self, event: dict[str, Any], when: int | None) -> None:
        self.step += 1
        seen, self.observed = self.observed, []
        self.session.add(StepStart(step=self.step, observation=seen[0] if len(seen) == 1 else seen or None, source_time=when))
        asked = obj(event.get("tool_call"))
        if "function" not in asked and asked:  # newer versions write it flat
            asked = {"id": asked.get("id"), "type": "function", "function": without(asked, "id", "origin")}
        message: dict[str, Any] = {"role": "assistant", "content": items(event.get("thought")), "tool_calls": [asked]}
        known = text(event.get("llm_response_id")) in self.calls
        call = self._call(event, message, when, self.step)
        if known and self.history:  # a parallel call of the same reply: one message with all of them
            position = max(i for i, (_, m) in enumerate(self.history) if m.get("role") == "assistant")
            event_id, last = self.history[position]
            self.history[position] = (event_id, {**last, "tool_calls": [*items(last.get("tool_calls")), asked]})
        function = obj(asked.get("function"))
        given = arguments(function.get("arguments")) if function else event.get("action")
        action = self.session.add(
            Action(
                step=self.step,
                source_time=when,
                name=text(event.get("tool_name")) or str(function.get("name") or ""),
                arguments=given,
                llm_call=call.id if call else None,
                tool_call_id=text(event.get("tool_call_id")),
                extra={"action": event.get("action"), "security_risk": event.get("security_risk")},
            )
        )
        for key in (text(event.get("id")), text(event.get("tool_call_id"))):
            if key:
                self.actions[key] = action
        if action.name == "finish":
            self.answer = obj(event.get("action")).get("message") or obj(given).get("message")

    def _observation(self, event: dict[str, Any], when: int | None) -> None:
        observation = event.get("observation", event.get("error"))
        o = obj(observation)
        content = o.get("content", o.get("output", observation))
        code = integer(o.get("exit_code"))
        failed = event.get("kind") == "AgentErrorEvent" or o.get("is_error") is True or o.get("error") not in (None, False, "")
        ok = False if failed else code == 0 if code is not None and code != -1 else None
        keys = (text(event.get("action_id")), text(event.get("tool_call_id")))
        action = next((self.actions[k] for k in keys if k in self.actions), None)
        if action is not None:
            took = when - action.source_time if when is not None and action.source_time is not None else -1
            duration = took if took >= 0 else None
            self.session.replace(action, result=observation, ok=ok, duration=duration)
        else:
            self.session.add(Note(name="result_without_call", data=without(event, "timestamp"), source_time=when))
        id = text(event.get("tool_call_id"))
        self.history.append((text(event.get("id")), {"role": "tool", "tool_call_id": id, "content": content}))


_SWITCHES = ("cache_enabled", "vision_enabled", "function_calling_enabled", "force_string_serializer")
