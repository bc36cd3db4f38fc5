"""OpenHands V1 events -> a session. A step is an `ActionEvent`; a call is a distinct `llm_response_id`.

A reply with several tool calls is several events with one response id: they are one message again here. Usage is known where
the metrics list it per response; else only the totals are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import arguments, content_text, dicts, integer, items, nanoseconds, number, obj, score, text, without
from ...types import Action, End, LLMCall, Note, Reward, Start, Status, StepStart, Tokens
from .. import peek
from ..session import Session, observed_where, parse_time

_ENDED: dict[str, Status] = {"finished": "completed", "error": "failed", "stuck": "failed", "deleting": "cancelled"}
_SWITCHES = ("cache_enabled", "vision_enabled", "function_calling_enabled", "force_string_serializer")
_THINKING = ("reasoning_content", "thinking_blocks", "responses_reasoning_item", "reasoning_details")
#: Models that are sent their thoughts again, where these are a text.
_THINKERS = ("kimi-k", "minimax-m2", "deepseek/deepseek-")
#: The parent of an event that begins a conversation anew.
_ROOT = "__root__"
#: Observations around whose output the model is sent what the terminal says of itself.
_TERMINALS = ("TerminalObservation", "ExecuteBashObservation")
_EVENT = ("kind", "id", "timestamp", "source", "thought", "action", "tool_name", "tool_call_id", "tool_call", "llm_response_id")


def from_folder(format: str, path: Path, folder: Path) -> Session:
    """A session from a folder with `events/` and, where it is there, `base_state.json`."""
    events: list[Any] = []
    bad: list[str] = []
    for file in sorted(peek.files_in(folder / "events", "*.json"), key=_number):
        try:
            events.append(loads(file.read_bytes()))
        except InvalidInput:
            bad.append(file.name)
    state: dict[str, Any] = {}
    for name in ("meta.json", "base_state.json"):
        if (folder / name).is_file():
            try:
                state |= obj(loads((folder / name).read_bytes()))
            except InvalidInput:
                bad.append(name)
    if not dicts(events):
        raise InvalidInput("an OpenHands folder without a readable event")
    source = {**without(state, "stats", "id"), "format": format, "path": path.name, "session": state.get("id")}
    session = from_events(format, events, source, stats=obj(state.get("stats")))
    for name in bad:
        session.warn(f"damaged file {name}")
    return session


def _sent(event: dict[str, Any], observation: dict[str, Any], said: Any) -> Any:
    """What the model is sent of an observation: the program writes around it how it went."""
    if text(event.get("rejection_reason")):
        return f"Action rejected: {event['rejection_reason']}"
    about = obj(observation.get("metadata"))
    if observation.get("kind") in _TERMINALS and about:
        parts = [f"{about.get('prefix') or ''}{content_text(said) or ''}{about.get('suffix') or ''}"]
        for what, name in (("Current working directory:", "working_dir"), ("Python interpreter:", "py_interpreter_path")):
            parts += [f"[{what} {about[name]}]"] if about.get(name) else []
        if about.get("exit_code") not in (None, -1):
            parts.append(f"[Command finished with exit code {about['exit_code']}]")
        said = "\n".join(parts)
    if observation.get("is_error") is True:
        rest = [{"type": "text", "text": said}] if isinstance(said, str) else [without(p, "cache_prompt") for p in dicts(said)]
        return [{"type": "text", "text": "[An error occurred during execution.]\n"}, *rest]
    return said


def _number(file: Path) -> tuple[int, str]:
    """Events are numbered; past 99,999 the names no longer sort by it."""
    found = re.search(r"\d+", file.name)
    return (int(found[0]) if found and len(found[0]) < 19 else 0, file.name)


def from_events(
    format: str, history: list[Any], source: dict[str, Any], *, key: list[Any] | None = None, stats: dict[str, Any] | None = None
) -> Session:
    """A session from V1 events in order. `key`: what tells it from others; `stats`: the conversation's metrics."""
    found = list(_apart(dicts(history)))
    started = next((t for e in found if (t := parse_time(e.get("timestamp"))) is not None), None)
    first = next((e for e in found if e.get("kind") == "MessageEvent" and e.get("source") == "user"), {})
    instruction = source.get("instruction")
    task = content_text(obj(first.get("llm_message")).get("content")) or instruction
    session = Session(format, *(key or [source.get("session"), content_hash(found[:1])]), started=started)
    if len(found) < len(history):
        session.warn("events that are no object", len(history) - len(found))
    llm = obj(obj(source.get("agent")).get("llm")) or obj(obj(source.get("metadata")).get("llm"))
    metadata = {"source": {k: v for k, v in source.items() if v is not None}}
    model = text(llm.get("model"))
    session.add(Start(task=task, agent="openhands", model=model, metadata=metadata, source_time=started))
    reader = _Reader(session, model, found, _metrics(source, stats or {}))
    reader.services = _services(stats or {})
    if not first and isinstance(instruction, str):  # an evaluation's output leaves the task's own message out
        reader._say((None, {"role": "user", "content": instruction}))
        reader.observed.append((instruction, None, None))
    for event in found:
        reader.event(event)
    reader.end(source)
    return session


def _apart(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events, each with an id of its reply that no other reply has: some servers give all their answers one id. What an id
    names behind a message is another reply than before."""
    turn = 0
    seen: dict[str, tuple[int, int]] = {}  # in which turn an id came last, and how many replies had it before
    for event in events:
        turn += event.get("kind") == "MessageEvent"
        id = text(event.get("llm_response_id"))
        if id is None:
            yield event
            continue
        last, count = seen.get(id, (turn, 0))
        seen[id] = turn, (count := count + (last != turn))
        yield {**event, "llm_response_id": _nth(id, count)} if count else event


def _nth(id: str, count: int) -> str:
    return f"{id}#{count}" if count else id


def _by_reply(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the metrics say of each reply, by its id as `_apart` makes it."""
    seen: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if id := text(entry.get("response_id")):
            found[_nth(id, seen[id])] = entry
            seen[id] += 1
    return found


def _tool(tool: Any) -> Any:
    """A tool of the SDK as chat's function: the file says its name and what it does, and the parameters of MCP's alone."""
    given = obj(tool)
    name = text(given.get("title")) or text(obj(given.get("annotations")).get("title"))
    outer = obj(given.get("mcp_tool"))
    name = text(outer.get("name")) or name
    if "function" in given or "kind" not in given or name is None:
        return tool
    function = {"name": name, "description": given.get("description"), "parameters": outer.get("inputSchema")}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}, **without(given, "description")}


def _services(stats: dict[str, Any]) -> dict[str, Any]:
    found = obj(stats.get("service_to_metrics")) or obj(stats.get("usage_to_metrics"))
    return {
        name: {k: v for k, v in obj(m).items() if k in ("model_name", "accumulated_cost", "accumulated_token_usage")}
        for name, m in found.items()
        if name not in ("default", "agent")
    }


def _metrics(source: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """The agent's own metrics: those of the condenser and other services are apart."""
    services = obj(stats.get("service_to_metrics")) or obj(stats.get("usage_to_metrics"))
    return obj(services.get("default")) or obj(services.get("agent")) or obj(source.get("metrics"))


class _Reader:
    def __init__(self, session: Session, model: str | None, events: list[dict[str, Any]], metrics: dict[str, Any]) -> None:
        self.session = session
        self.model = model
        self.metrics = metrics
        self.usages = _by_reply(dicts(metrics.get("token_usages")))
        self.latencies = _by_reply(dicts(metrics.get("response_latencies")))
        self.replies = _replies(events)
        self.costs = _costs(metrics)
        #: The conversation, each message with the event that it came of.
        self.history: list[tuple[str | None, Any]] = []
        #: The same without the events: what requests are prefixes of. A condenser begins another.
        self.sent: list[Any] = []
        self.tools: list[Any] = []
        self.unanswered: list[Any] = []
        #: What the condenser and other services used and cost.
        self.services: dict[str, Any] = {}
        self.calls: dict[str, LLMCall] = {}
        self.spoke = False
        self.last_call: LLMCall | None = None
        self.actions: dict[str, Action] = {}
        #: What the next step observes: each text, with the id and the time of its event.
        self.observed: list[tuple[Any, str | None, int | None]] = []
        #: The tree of the events: what each is below, what each said, the condensations, and the last event.
        self.above: dict[str, str | None] = {}
        self.told: dict[Any, list[tuple[str | None, Any]]] = {}
        self.condensed: dict[str, dict[str, Any]] = {}
        self.leaf: str | None = None
        self.step = -1
        self.turn = 0  #: how many replies there were
        self.answer: Any = None
        self.finished = False
        self.failure: Any = None
        self.state: str | None = None

    def _say(self, said: tuple[Any, dict[str, Any]]) -> None:
        self.told.setdefault(said[0], []).append(said)
        self.history.append(said)
        self.sent.append(said[1])
        if said[1].get("role") in ("system", "user"):
            self.unanswered.append(said[1])

    def _place(self, event: dict[str, Any]) -> None:
        """Where an event stands in the tree of events: one that is not below the event before it begins another branch."""
        id, parent = text(event.get("id")), text(event.get("parent_id")) or self.leaf
        if id is None:
            return
        if parent != self.leaf and (parent == _ROOT or parent in self.above):
            path: list[str] = []
            above: str | None = parent
            while above is not None and above in self.above and above not in path:
                path.append(above)
                above = self.above[above]
            self.history = []
            for one in reversed(path):
                self.history += self.told.get(one, [])
                if one in self.condensed:
                    self._forget(self.condensed[one])
            self.sent = [m for _, m in self.history]
        self.above[id], self.leaf = parent, id

    def event(self, event: dict[str, Any]) -> None:
        self._place(event)
        kind = event.get("kind")
        when = parse_time(event.get("timestamp"))
        if kind == "SystemPromptEvent":
            self.tools = list(map(_tool, items(event.get("tools"))))
            prompt = event.get("system_prompt")
            said = content_text([prompt]) if isinstance(prompt, dict) else prompt
            self._say((text(event.get("id")), {"role": "system", "content": said}))
            dynamic = event.get("dynamic_context")
            if dynamic:
                said = content_text([dynamic]) if isinstance(dynamic, dict) else dynamic
                self._say((text(event.get("id")), {"role": "user", "content": said}))
        elif kind == "MessageEvent":
            self._message(event, when)
        elif kind == "ActionEvent":
            self._action(event, when)
        elif kind == "TokenEvent":
            self._tokens(event, when)
        elif "action_id" in event or "tool_call_id" in event:
            self._observation(event, when)
        else:
            if kind == "Condensation":
                self._condense(event)
            elif kind == "ConversationErrorEvent":
                self.failure = event.get("detail") or event.get("code")
            elif kind == "ConversationStateUpdateEvent" and event.get("key") in ("agent_status", "execution_status"):
                self.state = text(event.get("value")) or self.state
            self._note(str(kind), event, when)

    def _note(self, name: str, event: dict[str, Any], when: int | None) -> None:
        step = self.step if self.step >= 0 else None
        self.session.add(Note(name=name, step=step, data=without(event, "timestamp", "kind"), source_time=when))

    def _message(self, event: dict[str, Any], when: int | None) -> None:
        message = without(obj(event.get("llm_message")), *_SWITCHES)
        added = items(event.get("extended_content"))
        if added and isinstance(message.get("content"), list):
            message["content"] = [*message["content"], *added]
        if event.get("source") == "agent":
            # no action: no step of its own, as the agent only speaks
            call = self._call(event, message, when, None)
            self.answer = content_text(message.get("content")) if call is not None else self.answer
            self.spoke = True
            self._critic(event, None)
        else:
            self.observed.append((content_text(message.get("content")), text(event.get("id")), when))
            self._say((text(event.get("id")), message))

    def _call(self, event: dict[str, Any], message: dict[str, Any], when: int | None, step: int | None) -> LLMCall:
        id = text(event.get("llm_response_id"))
        if id is not None and id in self.calls:
            return self.calls[id]
        self.unanswered = []
        usage = self.usages.get(id or "") or {}
        request: dict[str, Any] = {"messages": Prefix(self.sent)}
        if self.tools:
            request["tools"] = self.tools
        self.turn += 1
        key = ("turn", self.turn) if step is None else ()  # takes the place of a note `unanswered`, as a step's beginning does
        self.last_call = call = self.session.add(
            LLMCall(
                step=step,
                source_time=when,
                origin="transcript",
                dialect="openai.chat",
                model=self.model,
                request=request,
                response=message,
                reasoning=text(message.get("reasoning_content")),
                usage=usage or None,
                prompt_tokens=integer(usage.get("prompt_tokens")),
                completion_tokens=integer(usage.get("completion_tokens")),
                cost=self.costs.get(id or ""),
                duration=nanoseconds(self.latencies.get(id or "", {}).get("latency")),
                extra={"llm_response_id": id.partition("#")[0]} if id else None,
            ),
            *key,
        )
        if not any(name in (self.model or "").lower() for name in _THINKERS):
            message = without(message, "reasoning_content")
        self._say((text(event.get("id")), message))
        if id is not None:
            self.calls[id] = call
        return call

    def _action(self, event: dict[str, Any], when: int | None) -> None:
        self.step += 1
        self.spoke = False
        told, self.observed = self.observed, []
        seen = [said for said, _, _ in told]
        where = observed_where([id for _, id, _ in told], [at for _, _, at in told])
        observation = seen[0] if len(seen) == 1 else seen or None
        own = () if text(event.get("llm_response_id")) in self.calls else ("turn", self.turn + 1)
        self.session.add(StepStart(step=self.step, observation=observation, source_time=when, extra=where), *own)
        reply = self.replies.get(text(event.get("llm_response_id")) or "") or _reply([event])
        call = self._call(event, reply, when, self.step)
        asked = _tool_call(event)
        function = obj(asked.get("function"))
        action = obj(event.get("action"))
        given = arguments(function.get("arguments")) if function else without(action, "kind")
        # `action` says the same as the call's arguments, parsed
        parsed = {k: v for k, v in action.items() if v is not None and (k == "kind" or obj(given).get(k) != v)}
        extra = {**({"action": parsed} if parsed else {}), **without(event, *_EVENT, *_THINKING)}
        record = self.session.add(
            Action(
                step=self.step,
                name=text(event.get("tool_name")) or str(function.get("name") or ""),
                arguments=given,
                llm_call=call.id,
                tool_call_id=text(event.get("tool_call_id")),
                extra={k: v for k, v in extra.items() if v is not None} or None,
                source_time=when,
            )
        )
        for name in (text(event.get("id")), text(event.get("tool_call_id"))):
            if name:
                self.actions[name] = record
        if record.name == "finish" or action.get("kind") == "FinishAction":
            self.finished = True
            self.answer = action.get("message") or obj(given).get("message")
        self._critic(event, self.step)

    def _critic(self, event: dict[str, Any], step: int | None) -> None:
        judged = obj(event.get("critic_result"))
        if judged.get("score") is not None:
            rationale = text(judged.get("message"))
            self.session.add(
                Reward(name="critic", value=score(judged["score"]), source="judge", step=step, weight=0, rationale=rationale)
            )

    def _observation(self, event: dict[str, Any], when: int | None) -> None:
        o = obj(event.get("observation"))
        failure = event.get("error", event.get("rejection_reason"))
        said = o.get("content", o.get("output", o.get("message", failure)))
        code = integer(o.get("exit_code", None))
        if code is None:
            code = integer(obj(o.get("metadata")).get("exit_code"))
        wrong = o.get("is_error") is True or o.get("error") not in (None, False, "")
        ok: bool | None = None if code is None or code == -1 else code == 0
        if failure is not None or wrong:
            ok = False
        keys = (text(event.get("action_id")), text(event.get("tool_call_id")))
        action = next((self.actions[k] for k in keys if k in self.actions), None)
        if action is None:
            self._note("result_without_call", event, when)
        else:
            took = when - action.source_time if when is not None and action.source_time is not None else -1
            known = o.get("error") if wrong and isinstance(o.get("error"), str) else None
            rest = {k: v for k, v in o.items() if v is not None and v is not said}
            self.session.replace(
                action,
                result=content_text(said) or (said if said is not None else event.get("observation")),
                ok=ok,
                error=failure if failure is not None else known,
                duration=took if took >= 0 else None,
                extra={**(action.extra or {}), "observation": rest} if rest else action.extra,
            )
        content = _sent(event, o, said if isinstance(said, (str, list)) else None)
        self._say((text(event.get("id")), {"role": "tool", "tool_call_id": text(event.get("tool_call_id")), "content": content}))

    def _condense(self, event: dict[str, Any]) -> None:
        """The condenser forgot events, and put a summary of them into the conversation."""
        self.condensed[text(event.get("id")) or ""] = event
        self._forget(event)
        self.sent = [m for _, m in self.history]

    def _forget(self, event: dict[str, Any]) -> None:
        gone = {i for i in items(event.get("forgotten_event_ids")) if isinstance(i, str)}
        self.history = [(i, m) for i, m in self.history if i not in gone]
        if text(event.get("summary")):
            at = integer(event.get("summary_offset"))
            place = len(self.history) if at is None or at < 0 else min(at, len(self.history))
            self.history.insert(place, (text(event.get("id")), {"role": "user", "content": event["summary"]}))

    def _tokens(self, event: dict[str, Any], when: int | None) -> None:
        """The ids that the backend gave for the call before it."""
        prompt, answer = event.get("prompt_token_ids"), event.get("response_token_ids")
        call = self.last_call
        if call is None or not _are_ids(prompt) or not _are_ids(answer):
            self._note("TokenEvent", event, when)
            return
        self.session.replace(call, prompt_token_ids=prompt, tokens=[Tokens(token_ids=answer)])
        self.last_call = None

    def end(self, source: dict[str, Any]) -> None:
        error = source.get("error") or self.failure
        state = text(source.get("agent_status")) or text(source.get("execution_status")) or self.state
        status = _ENDED.get(state or "")
        if status is None:
            if self.finished:
                status = "completed"
            elif source.get("error"):
                status = "failed"
            elif self.spoke and "instruction" in source:  # an answer without a tool call ends a run
                status = "completed"
            elif "instruction" in source:  # a line of results is a finished artefact
                status = "truncated"
        if self.unanswered:  # of a run that failed before it was answered, or a last word
            data: dict[str, Any] = {"messages": self.unanswered}
            if self.tools and not self.calls and self.step < 0:
                data["tools"] = self.tools
            self.session.add(Note(name="unanswered", data=data), "turn", self.turn + 1)
        used = obj(self.metrics.get("accumulated_token_usage"))
        metrics = {
            "prompt_tokens": integer(used.get("prompt_tokens")),
            "completion_tokens": integer(used.get("completion_tokens")),
            "cost": number(self.metrics.get("accumulated_cost")),
            "accumulated_token_usage": used or None,
            "agent_status": state,
            "services": self.services or None,
        }
        metrics = {k: v for k, v in metrics.items() if v is not None}
        if status is not None:
            self.session.add(End(status=status, answer=self.answer, error=error, metrics=metrics))
        elif used:  # it may go on: its totals so far stand at its start
            start = self.session.records[0]
            assert isinstance(start, Start)
            start.metadata["source"]["totals"] = metrics


def _costs(metrics: dict[str, Any]) -> dict[str, float]:
    """What each reply cost. The metrics list costs and usages in one order; a cost has a response id of its own only in some."""
    found, usages = dicts(metrics.get("costs")), dicts(metrics.get("token_usages"))
    seen: Counter[str] = Counter()
    costs: dict[str, float] = {}
    for n, entry in enumerate(found):
        id = text(entry.get("response_id")) or (text(usages[n].get("response_id")) if len(found) == len(usages) else None)
        cost = number(entry.get("cost"))
        if id is not None and cost is not None:
            costs[_nth(id, seen[id])] = cost
            seen[id] += 1
    return costs


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(i) is int and 0 <= i < 2**31 for i in value)


def _tool_call(event: dict[str, Any]) -> dict[str, Any]:
    """The tool call in OpenAI's shape; newer versions write it flat."""
    asked = obj(event.get("tool_call"))
    if asked and "function" not in asked:
        return {"id": asked.get("id"), "type": "function", "function": without(asked, "id", "origin", "type")}
    return without(asked, "index")


def _reply(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's message that these action events came of: thought and thinking stand in the first."""
    first = events[0]
    thought = next((t for e in events if (t := items(e.get("thought")))), [])
    message: dict[str, Any] = {"role": "assistant", "content": thought, "tool_calls": [_tool_call(e) for e in events]}
    return message | {k: first[k] for k in _THINKING if first.get(k)}


def _replies(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The message of each response id."""
    together: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        id = text(event.get("llm_response_id"))
        if event.get("kind") == "ActionEvent" and id is not None:
            together.setdefault(id, []).append(event)
    return {id: _reply(found) for id, found in together.items()}
