"""ATIF trajectories (v1.0 to v1.8): an object with `schema_version`, `agent` and `steps`. One of our own comes back losslessly.

Every ATIF step is a step; agent steps hold a call (unless they say that none was made, or are copied context) and their
tool calls. Embedded sub-agents are agents of the same trajectory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import content_text, dicts, integer, items, number, obj, text, without
from ...types import Action, End, LLMCall, Note, Start, StepStart, Tokens
from ..own import records_of_lines
from ..session import Session, parse_time

NAME = "atif"


def recognise(path: Path, head: bytes) -> bool:
    """`schema_version` that starts with ATIF-v."""
    return head.lstrip()[:1] == b"{" and b'"ATIF-v' in head[:8192] and b'"schema_version"' in head[:8192]


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it is none."""
    value = obj(loads(path.read_bytes()))
    if not str(value.get("schema_version")).startswith("ATIF-v"):
        raise InvalidInput("an ATIF file without its schema_version")
    steps = dicts(value.get("steps"))
    own = obj(obj(value.get("extra")).get("odograph"))
    if own.get("lines") and own.get("hash") == content_hash(value.get("steps")):
        session = Session(NAME)
        session.records = list(records_of_lines(own["lines"]))
        session.id = session.records[0].trajectory
        yield session
        return
    if not steps:
        raise InvalidInput("an ATIF file without a step")
    started = parse_time(steps[0].get("timestamp"))
    key = (value.get("trajectory_id"), value.get("session_id"))
    # a continuation repeats its parent's first step, and fixtures share session ids; what came of the second may come later
    began = [[s.get(k) for k in ("timestamp", "source", "message")] for s in steps[:2]]
    session = Session(NAME, *key, content_hash(began), started=started)
    session.objects(value, "steps")
    if own:
        session.warn("this file was changed after Odograph wrote the file: read like any other ATIF file")
    agent = obj(value.get("agent"))
    task = next((content_text(s.get("message")) for s in steps if s.get("source") == "user"), None)
    about = without(value, "steps", "agent", "subagent_trajectories", "extra")
    session.add(
        Start(
            task=task,
            agent=text(agent.get("name")),
            agent_version=text(agent.get("version")),
            model=text(agent.get("model_name")),
            metadata={
                "source": {
                    "format": NAME,
                    "path": path.name,
                    "session": value.get("session_id"),
                    **about,
                    **({"extra": value["extra"]} if value.get("extra") and not own else {}),
                    **({"agent_extra": agent["extra"]} if agent.get("extra") else {}),
                }
            },
            source_time=next((t for s in steps if (t := parse_time(s.get("timestamp"))) is not None), None),
        )
    )
    counted = any("metrics" in s for s in steps)
    _steps(session, steps, items(agent.get("tool_definitions")), text(agent.get("model_name")), None)
    for number_, sub in enumerate(session.objects(value, "subagent_trajectories")):
        inner = obj(sub.get("agent"))
        name = text(inner.get("name")) or "subagent"
        known = text(sub.get("trajectory_id")) or str(number_)
        session.within(f"{name}-{known}", _starter(session, known))
        session.add(Note(name="subagent", data=without(sub, "steps"), agent=f"{name}-{known}"))
        _steps(
            session,
            session.objects(sub, "steps"),
            items(inner.get("tool_definitions")),
            text(inner.get("model_name")),
            f"{name}-{known}",
        )
    final = obj(value.get("final_metrics"))
    metrics: dict[str, Any] = dict(final)
    if not counted:
        for ours, theirs in (("prompt_tokens", "total_prompt_tokens"), ("completion_tokens", "total_completion_tokens")):
            if integer(final.get(theirs)):
                metrics[ours] = integer(final.get(theirs))
    last = parse_time(steps[-1].get("timestamp"))
    session.add(End(metrics=metrics, source_time=last))
    yield session


def _starter(session: Session, known: str) -> str | None:
    """The action whose result refers to a sub-agent's trajectory."""
    for record in session.records:
        if isinstance(record, Action):
            refs = dicts(obj(record.extra).get("subagent_trajectory_ref"))
            if any(known in (ref.get("trajectory_id"), ref.get("session_id")) for ref in refs):
                return record.id
    return None


def _steps(session: Session, steps: list[dict[str, Any]], tools: list[Any], model: str | None, agent: str | None) -> None:
    history: list[Any] = []
    observed: list[Any] = []
    for index, step in enumerate(steps):
        when = parse_time(step.get("timestamp"))
        source = step.get("source")
        message = step.get("message")
        if source not in ("agent", "user", "system"):
            session.warn("steps of no known source")
        if source != "agent":
            extra = without(step, "step_id", "source", "message", "timestamp", "observation") or None
            session.add(
                StepStart(
                    step=index, agent=agent, source_time=when, observation=message, extra={"source": source, **(extra or {})}
                )
            )
            history.append({"role": "system" if source == "system" else "user", "content": message})
            _results(session, step, {}, index, agent, when, history)
            continue
        seen, observed = observed, []
        session.add(StepStart(step=index, agent=agent, source_time=when, observation=seen or None))
        call = _call(session, step, history, tools, model, index, agent, when)
        answer: dict[str, Any] = {"role": "assistant", "content": message}
        asked = session.objects(step, "tool_calls")
        if asked:
            answer["tool_calls"] = [
                {
                    "id": c.get("tool_call_id"),
                    "type": "function",
                    "function": {"name": c.get("function_name"), "arguments": c.get("arguments")},
                }
                for c in asked
            ]
        history.append(answer)
        actions: dict[str, Action] = {}
        for c in asked:
            action = session.add(
                Action(
                    step=index,
                    agent=agent,
                    source_time=when,
                    name=str(c.get("function_name") or ""),
                    arguments=c.get("arguments"),
                    llm_call=call.id if call else None,
                    tool_call_id=text(c.get("tool_call_id")),
                    extra=obj(c.get("extra")) or None,
                )
            )
            if action.tool_call_id:
                actions[action.tool_call_id] = action
        _results(session, step, actions, index, agent, when, history)


def _call(
    session: Session,
    step: dict[str, Any],
    history: list[Any],
    tools: list[Any],
    model: str | None,
    index: int,
    agent: str | None,
    when: int | None,
) -> LLMCall | None:
    message = step.get("message")
    if step.get("llm_call_count") == 0 or step.get("is_copied_context"):
        what = "copied_context" if step.get("is_copied_context") else "message"
        data = without(step, "observation", "tool_calls", "timestamp")
        session.add(Note(name=what, data=data, step=index, agent=agent, source_time=when))
        return None
    metrics = obj(step.get("metrics"))
    request: dict[str, Any] = {"messages": Prefix(history)}
    if tools:
        request["tools"] = tools
    response: dict[str, Any] = {"role": "assistant", "content": message}
    calls = dicts(step.get("tool_calls"))
    if calls:
        response["tool_calls"] = [
            {
                "id": c.get("tool_call_id"),
                "type": "function",
                "function": {"name": c.get("function_name"), "arguments": c.get("arguments")},
            }
            for c in calls
        ]
    ids = metrics.get("completion_token_ids")
    logprobs = metrics.get("logprobs")
    tokens = [Tokens(token_ids=_ids(ids), logprobs=logprobs if isinstance(logprobs, list) else None)]
    usage = {k: v for k, v in metrics.items() if k not in ("prompt_token_ids", "completion_token_ids", "logprobs", "extra")}
    extra = {k: step[k] for k in ("reasoning_effort", "llm_call_count", "extra") if step.get(k) is not None}
    if metrics.get("extra"):
        extra["metrics"] = metrics["extra"]
    return session.add(
        LLMCall(
            step=index,
            agent=agent,
            source_time=when,
            origin="transcript",
            dialect="openai.chat",
            model=text(step.get("model_name")) or model,
            request=request,
            response=response,
            reasoning=text(step.get("reasoning_content")),
            usage=usage or None,
            prompt_tokens=integer(metrics.get("prompt_tokens")),
            completion_tokens=integer(metrics.get("completion_tokens")),
            cost=number(metrics.get("cost_usd")),
            prompt_token_ids=_ids(metrics.get("prompt_token_ids")),
            tokens=tokens if ids is not None or logprobs is not None else [],
            extra=extra or None,
        )
    )


def _ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and all(type(i) is int for i in value) else None


def _results(
    session: Session,
    step: dict[str, Any],
    actions: dict[str, Action],
    index: int,
    agent: str | None,
    when: int | None,
    history: list[Any],
) -> None:
    for result in dicts(obj(step.get("observation")).get("results")):
        id = text(result.get("source_call_id"))
        content = result.get("content")
        refs = result.get("subagent_trajectory_ref")
        action = actions.get(id or "")
        if action is not None:
            extra = {**(action.extra or {}), **without(result, "source_call_id", "content")}
            session.replace(action, result=content, extra=extra or None)
            history.append({"role": "tool", "tool_call_id": id, "content": content})
            continue
        if refs is not None or id is not None:
            session.add(Note(name="observation", data=result, step=index, agent=agent, source_time=when))
        elif content is not None:
            session.add(Note(name="observation", data=content, step=index, agent=agent, source_time=when))
        if content is not None:
            history.append({"role": "user", "content": content})
