"""The calls of an Inspect log, and its sub-agents: what stands in events alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ... import dialects
from ...shape import added, arguments, dicts, integer, items, nanoseconds, number, obj, text
from ...types import Action, LLMCall, StepStart
from ..session import Session, parse_time
from ..transcript import Transcript, described
from .inspect_sample import Sample, chat_message

_COUNTS = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")


def inside(span: Any, spans: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The agents' spans that a span is in, the innermost first."""
    found: list[dict[str, Any]] = []
    known: set[str] = set()
    while isinstance(span, str) and span in spans and span not in known:
        known.add(span)
        if spans[span].get("type") == "agent":
            found.append(spans[span])
        span = spans[span].get("parent_id")
    return found


class Agents:
    """The sub-agents of a sample: agents in spans inside of another agent's. What they do stands in events alone."""

    def __init__(self, session: Session, transcript: Transcript, events: list[dict[str, Any]]) -> None:
        self.session = session
        self.transcript = transcript
        self.spans: dict[str, dict[str, Any]] = {str(e.get("id")): e for e in events if e.get("event") == "span_begin"}
        self.steps: Counter[str] = Counter()
        self.actions: dict[str, Action] = {}
        self.done: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, list[Any]] = {}

    def in_tool(self, event: dict[str, Any]) -> bool:
        """Whether an event happened in a tool."""
        span, known = event.get("span_id"), set[str]()
        while isinstance(span, str) and span in self.spans and span not in known:
            known.add(span)
            if self.spans[span].get("type") == "tool":
                return True
            span = self.spans[span].get("parent_id")
        return False

    def of(self, event: dict[str, Any]) -> str | None:
        """The name of the sub-agent that an event is of; None for the main agent's."""
        path = inside(event.get("span_id"), self.spans)
        return str(path[0].get("name") or "agent") if len(path) > 1 else None

    def replied(self, agent: str, event: dict[str, Any], whole: Sample, answer: dict[str, Any], when: int | None) -> None:
        session = self.session
        if agent not in self.steps:
            session.within(agent, self._starter(agent, event))
        step = self.steps[agent]
        self.steps[agent] += 1
        given = dicts(whole.whole(items(event.get("input")))) or whole.pool.of(event.get("input_refs"))
        said = [m.get("content") for m in map(obj, given) if m.get("role") == "user"]
        new = said[len(self.seen.get(agent, [])) :]
        self.seen[agent] = said
        session.add(StepStart(step=step, agent=agent, observation=new[0] if len(new) == 1 else new or None, source_time=when))
        call = call_of(session, self.transcript, whole, event, when, "act", step, agent)
        for asked in dicts(whole.whole(answer.get("tool_calls"))):
            id = text(asked.get("id"))
            action = Action(
                step=step,
                agent=agent,
                source_time=when,
                name=str(asked.get("function") or ""),
                arguments=arguments(asked.get("arguments")),
                llm_call=call.id,
                tool_call_id=id,
            )
            placed = session.add(action, *(("action", id) if id else ()))
            if id:
                self.actions[id] = placed

    def started(self, agent: str, event: dict[str, Any]) -> bool:
        """Whether a tool call started the agent. Else the agent above only runs this one, and the two are one agent."""
        return agent in self.steps or self._starter(agent, event) is not None

    def _starter(self, agent: str, event: dict[str, Any]) -> str | None:
        """The tool call that started an agent: the last of the agent above with its name, or a transfer to it."""
        outer = inside(event.get("span_id"), self.spans)[1:]
        above = str(outer[0].get("name")) if len(outer) > 1 else None
        names = (agent, f"transfer_to_{agent}")
        found = (r for r in reversed(self.session.records) if isinstance(r, Action) and r.name in names and r.agent == above)
        return next((r.id for r in found), None)

    def acted(self, event: dict[str, Any], whole: Sample) -> None:
        """What came of a tool call. The main agent's has the result that the messages have, where they have one. A call that no
        answer in the messages asked for is an action all the same."""
        id = text(event.get("id"))
        began, ended = parse_time(event.get("timestamp")), parse_time(event.get("completed"))
        took = ended - began if began is not None and ended is not None else nanoseconds(event.get("working_time"))
        changes: dict[str, Any] = {"started": began, **({"duration": took} if took is not None and took >= 0 else {})}
        error = event.get("error")
        if "result" in event and not event.get("pending"):
            changes |= {"result": whole.whole(event["result"]), "ok": error is None, "error": error}
        known = self.actions.get(id or "")
        if known is not None:
            self.actions[id or ""] = self.session.replace(known, **changes)
        elif id is not None and self.transcript.action(id) is not None:
            self.done[id] = changes
        elif "function" in event:
            given = whole.whole(event.get("arguments"))
            action = Action(name=str(event["function"]), arguments=given, tool_call_id=id, source_time=began, **changes)
            self.session.add(action, *(("tool", id) if id else ()))

    def end(self) -> None:
        for id, changes in self.done.items():
            self.transcript.result(id, **changes)


def call_of(
    session: Session,
    transcript: Transcript,
    whole: Sample,
    event: dict[str, Any],
    when: int | None,
    purpose: str,
    step: int | None,
    agent: str | None = None,
) -> LLMCall:
    raw = obj(event.get("call"))
    request, response = obj(raw.get("request")), raw.get("response")
    if raw.get("call_refs") is not None:
        key = text(raw.get("call_key")) or "messages"
        request = {**request, key: whole.calls.of(raw.get("call_refs"))}
    output = obj(event.get("output"))
    spoken = dialects.of_response(response, None) if request and isinstance(response, dict) else None
    dialect = "openai.chat"
    if spoken is not None and (spoken.is_response(response) or not dicts(output.get("choices"))):
        origin: Any = "wire"
        sent, answer, dialect = whole.whole(request), whole.whole(response), spoken.NAME
    else:
        origin = "transcript"
        given = dicts(whole.whole(items(event.get("input"))))
        sent = {
            "model": event.get("model"),
            "messages": [chat_message(m) for m in given] if given else whole.chat.of(event.get("input_refs")),
            **obj(event.get("config")),
        }
        if items(event.get("tools")):
            sent["tools"] = described(event["tools"])
        choices = [
            {
                "index": i,
                "message": chat_message(obj(whole.whole(c.get("message")))),
                "finish_reason": c.get("stop_reason"),
                "logprobs": c.get("logprobs"),
            }
            for i, c in enumerate(dicts(output.get("choices")))
        ]
        answer = {"choices": choices, "model": output.get("model"), "usage": output.get("usage")} if output else None
    usage = obj(output.get("usage"))
    seconds = number(output.get("time")) or number(event.get("working_time"))
    return session.add(
        LLMCall(
            step=step,
            agent=agent,
            source_time=when,
            origin=origin,
            dialect=dialect,
            model=text(output.get("model")) or text(event.get("model")) or transcript.model,
            request=sent,
            response=answer,
            purpose=purpose,
            usage=usage or None,
            prompt_tokens=prompt_tokens_of(usage, text(event.get("model"))),
            completion_tokens=integer(usage.get("output_tokens")),
            finish_reason=next((text(c.get("stop_reason")) for c in dicts(output.get("choices"))), None),
            reasoning=thought(obj(whole.whole(obj(next(iter(dicts(output.get("choices"))), None)).get("message")))),
            cost=number(usage.get("total_cost")),
            error=event.get("error") or output.get("error"),
            duration=nanoseconds(seconds),
            extra={k: event[k] for k in ("cache", "retries", "role", "uuid", "traceback") if event.get(k) is not None} or None,
        )
    )


def prompt_tokens_of(usage: dict[str, Any], model: str | None) -> int | None:
    """The prompt's tokens, cached ones included. Some providers' input tokens leave those out: the total then is more than
    input and output, or the model is Anthropic's."""
    counts = [integer(usage.get(n)) for n in _COUNTS]
    plain, output, total = counts[0], integer(usage.get("output_tokens")) or 0, integer(usage.get("total_tokens"))
    cached = added(*counts[1:])
    if plain is None or not cached:
        return plain
    apart = total >= plain + output + cached if total else "anthropic" in (model or "") or "claude" in (model or "")
    return plain + cached if apart else plain


def thought(message: dict[str, Any]) -> str | None:
    """What the model thought: parts of the reply's content, and in early 2025 a field of it. Of a thought that the provider
    redacted, the part has a cipher, and its summary is what can be read."""
    parts = [p for p in dicts(message.get("content")) if p.get("type") == "reasoning"]
    names = [("summary",) if p.get("redacted") is True else ("reasoning", "summary") for p in parts]
    found = [t for p, of in zip(parts, names, strict=True) if (t := next((t for n in of if (t := text(p.get(n)))), None))]
    return "\n\n".join(found) or text(message.get("reasoning"))
