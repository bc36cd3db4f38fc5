"""eliza / Babylon trajectories: camelCase `trajectoryId, agentId, steps[]{llmCalls, providerAccesses, action, reward}`.

A JSON object, a list of them, JSON lines, or rows of its database, where `stepsJson` and its like are strings of JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...plain import tagged
from ...shape import dicts, integer, number, obj, text, without
from ...types import Action, Context, End, LLMCall, Reward, Start, StepStart
from ..session import Lines, Session, parse_time

NAME = "eliza"
SURE = 30  # words that a file of another format may quote
_CALL = ("callId", "timestamp", "model", "modelVersion", "systemPrompt", "userPrompt", "messages", "response", "reasoning",
         "temperature", "maxTokens", "topP", "promptTokens", "completionTokens", "usage", "latencyMs", "purpose")  # fmt: skip
_ENDED: dict[str, Any] = {"completed": "completed", "terminated": "failed", "error": "failed", "timeout": "timeout"}


def recognise(path: Path, head: bytes) -> bool:
    """`trajectoryId` and `agentId`, with steps."""
    return b'"trajectoryId"' in head and b'"agentId"' in head and (b'"steps"' in head or b'"stepsJson"' in head)


def read(path: Path) -> Iterator[Session]:
    """A session per trajectory. Raises InvalidInput where there is none."""
    try:
        whole = loads(path.read_bytes())
        values: list[Any] = whole if isinstance(whole, list) else [whole]
        problems: list[str] = []
    except InvalidInput:
        lines = Lines(path)
        values = [v for _, v in lines]
        problems = lines.problems
    found = [v.get("trajectory", v) if isinstance(v, dict) else v for v in values]
    rows = [v for v in dicts(found) if "trajectoryId" in v]
    if not rows:
        raise InvalidInput("no eliza trajectory")
    for index, row in enumerate(rows):
        session = _session(path, row)
        if index == 0:
            for problem in problems:
                session.warn(problem)
            if len(rows) < len(found):
                session.warn("values that are no trajectory", len(found) - len(rows))
        yield session


def _field(row: dict[str, Any], name: str) -> Any:
    """A field, or what its database column of JSON text holds."""
    value = row.get(name, row.get(f"{name}Json"))
    if isinstance(value, str) and f"{name}Json" in row:
        try:
            return loads(value)
        except InvalidInput:
            return value
    return value


def _session(path: Path, row: dict[str, Any]) -> Session:
    started = parse_time(row.get("startTime"))
    session = Session(NAME, row.get("trajectoryId"), row.get("agentId"), started=started)
    steps = dicts(_field(row, "steps"))
    metadata = obj(_field(row, "metadata"))
    known = ("steps", "stepsJson", "metadata", "metadataJson", "metrics", "metricsJson", "rewardComponents", "totalReward")
    about = without(row, *known, "rewardComponentsJson", "trajectoryId", "agentId", "startTime", "endTime")
    task = metadata.get("goalDescription") or metadata.get("task") or metadata.get("goal")
    group = row.get("scenarioId")
    source = {"format": NAME, "path": path.name, "session": row.get("trajectoryId"), **about, "metadata": metadata or None}
    session.add(
        Start(
            task=task,
            agent=text(row.get("agentId")),
            group=group if isinstance(group, str) else None,
            metadata={"source": source},
            source_time=started,
        )
    )
    for index, step in enumerate(steps):
        _step(session, index, step)
    total = _field(row, "totalReward")
    components = obj(_field(row, "rewardComponents"))
    if total is not None:
        session.add(Reward(name="total", value=_value(total), extra={"components": components} if components else None))
    metrics = obj(_field(row, "metrics"))
    status = _ENDED.get(str(metrics.get("finalStatus") or row.get("finalStatus") or row.get("status")))
    if status is not None or row.get("endTime") is not None:
        session.add(End(status=status or "completed", metrics=metrics, source_time=parse_time(row.get("endTime"))))
    return session


def _value(value: Any) -> Any:
    checked = number(value)
    return tagged("float", str(value)) if checked is None and isinstance(value, float) else checked


def _step(session: Session, index: int, step: dict[str, Any]) -> None:
    when = parse_time(step.get("timestamp"))
    state, seen = step.get("environmentState"), step.get("observation")
    observation = (
        {"environmentState": state, "observation": seen}
        if state is not None and seen is not None
        else state
        if seen is None
        else seen
    )
    known = ("environmentState", "observation", "llmCalls", "providerAccesses", "action", "reward", "timestamp")
    session.add(StepStart(step=index, observation=observation, source_time=when, extra=without(step, *known) or None))
    for access in dicts(step.get("providerAccesses")):
        session.add(
            Context(
                step=index,
                source_time=parse_time(access.get("timestamp")) or when,
                provider=str(access.get("providerName") or ""),
                query=access.get("query"),
                data=access.get("data"),
                purpose=text(access.get("purpose")),
                extra=without(access, "providerName", "query", "data", "purpose", "timestamp") or None,
            )
        )
    calls: dict[str, LLMCall] = {}
    for call in dicts(step.get("llmCalls")):
        made = session.add(_call(index, call, when))
        calls[str(call.get("callId"))] = made
    action = obj(step.get("action"))
    if action:
        success = action.get("success")
        asked = calls.get(str(action.get("llmCallId")))
        fields = (
            "actionName",
            "actionType",
            "parameters",
            "result",
            "success",
            "error",
            "timestamp",
            "llmCallId",
            "immediateReward",
        )
        name = action.get("actionName") or action.get("actionType") or ""
        session.add(
            Action(
                step=index,
                source_time=parse_time(action.get("timestamp")) or when,
                name=str(name),
                arguments=action.get("parameters"),
                result=action.get("result"),
                ok=success if isinstance(success, bool) else None,
                error=action.get("error"),
                llm_call=asked.id if asked else None,
                extra=without(action, *fields) or None,
            )
        )
        if action.get("immediateReward") is not None:
            session.add(Reward(name="immediate", value=_value(action["immediateReward"]), step=index, weight=0.0))
    if step.get("reward") is not None:
        session.add(Reward(value=_value(step["reward"]), step=index, source_time=when))


def _call(index: int, call: dict[str, Any], when: int | None) -> LLMCall:
    messages = call.get("messages")
    if not isinstance(messages, list) or not messages:
        prompts = (("system", call.get("systemPrompt")), ("user", call.get("userPrompt")))
        messages = [{"role": role, "content": said} for role, said in prompts if isinstance(said, str)]
    request: dict[str, Any] = {"messages": messages}
    for ours, theirs in (("model", "model"), ("temperature", "temperature"), ("max_tokens", "maxTokens"), ("top_p", "topP")):
        if call.get(theirs) is not None:
            request[ours] = call[theirs]
    usage = obj(call.get("usage"))
    took = number(call.get("latencyMs"))
    purpose = text(call.get("purpose"))
    extra = without(call, *_CALL)
    if purpose not in (None, "action", "act"):
        extra["purpose"] = purpose
    return LLMCall(
        step=index,
        source_time=parse_time(call.get("timestamp")) or when,
        origin="transcript",
        dialect="openai.chat",
        model=text(call.get("model")),
        request=request,
        response=call.get("response"),
        reasoning=text(call.get("reasoning")),
        usage=usage or None,
        prompt_tokens=integer(call.get("promptTokens", usage.get("promptTokens"))),
        completion_tokens=integer(call.get("completionTokens", usage.get("completionTokens"))),
        purpose="act" if purpose in (None, "action", "act", "reasoning") else str(purpose),
        duration=round(took * 1e6) if took is not None and 0 <= took < 4e12 else None,
        extra=extra or None,
    )
