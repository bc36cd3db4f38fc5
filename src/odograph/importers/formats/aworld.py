"""AWorld trajectory items `{id, meta, state, action, reward}`: a JSON list, JSON lines, or log lines with Python literals.

Known to be wrong there: `state.messages` is not what the model saw, `status` and `success` say little; they are kept as
they stand. Items of one task are one trajectory.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...plain import tagged
from ...shape import arguments, content_text, dicts, integer, number, obj, text, without
from ...types import Action, End, LLMCall, Reward, Start, StepStart
from ..session import Session, parse_time

NAME = "aworld"
SURE = 30  # words that a file of another format may quote
_LONGEST_LITERAL = 20_000_000


def recognise(path: Path, head: bytes) -> bool:
    """Items with `meta`, `state`, `action` and `reward`."""
    quoted = head.replace(b"'", b'"')
    marks = (b'"meta"', b'"state"', b'"action"', b'"reward"')
    return all(m in quoted for m in marks) and (b'"task_id"' in quoted or b'"session_id"' in quoted) and b'"agent_id"' in quoted


def _items(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    try:
        value = loads(data)
        yield from (
            value if isinstance(value, list) else value.values() if isinstance(value, dict) and "meta" not in value else [value]
        )
        return
    except InvalidInput:
        pass
    for raw in data.decode("utf-8", "replace").splitlines():
        start = min((i for i in (raw.find("{"), raw.find("[")) if i >= 0), default=-1)
        if start < 0:
            continue
        found = _literal(raw[start:].strip())
        yield from found if isinstance(found, list) else [found]


def _literal(line: str) -> Any:
    try:
        return loads(line)
    except InvalidInput:
        pass
    if len(line) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def read(path: Path) -> Iterator[Session]:
    """A session per task. Raises InvalidInput where there is no item."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    bad = 0
    for item in _items(path):
        if isinstance(item, dict) and isinstance(item.get("meta"), dict) and ("action" in item or "state" in item):
            tasks.setdefault(str(item["meta"].get("task_id") or item["meta"].get("session_id")), []).append(item)
        else:
            bad += 1
    if not tasks:
        raise InvalidInput(f"{bad} values are no AWorld items, and no item was found")
    for task, items in tasks.items():
        session = _session(path, task, items)
        if bad:
            session.warn("values that are no item", bad)
            bad = 0
        yield session


def _session(path: Path, task: str, items: list[dict[str, Any]]) -> Session:
    meta = items[0]["meta"]
    started = parse_time(meta.get("execute_time"))
    session = Session(NAME, task, meta.get("session_id"), content_hash(items[0]), started=started)
    given = obj(obj(items[0].get("state")).get("input")).get("content")
    source = {"format": NAME, "path": path.name, "session": meta.get("session_id"), "task_id": meta.get("task_id")}
    agent = text(meta.get("agent_id"))
    session.add(Start(task=given, agent=agent, metadata={"source": source}, source_time=started))
    steps: dict[str | None, int] = {}
    actions: dict[str, Action] = {}
    finished, answer = False, None
    for item in items:
        about = obj(item.get("meta"))
        name = text(about.get("agent_id"))
        name = None if name == agent else name
        index = steps.get(name, 0)
        steps[name] = index + 1
        finished, answer = _item(session, item, name, index, actions)
    if finished:
        session.add(End(answer=answer, source_time=parse_time(obj(items[-1].get("meta")).get("execute_time"))))
    return session


def _item(session: Session, item: dict[str, Any], agent: str | None, index: int, actions: dict[str, Action]) -> tuple[bool, Any]:
    about, state, action, reward = (obj(item.get(k)) for k in ("meta", "state", "action", "reward"))
    when = parse_time(about.get("execute_time"))
    given = obj(state.get("input"))
    for result in dicts(given.get("action_result")):
        known = actions.get(str(result.get("tool_call_id")))
        if known is not None:
            success = result.get("success")
            session.replace(known, result=result.get("content"), ok=success if isinstance(success, bool) else None)
    extra = {
        "id": item.get("id"),
        **without(about, "agent_id", "execute_time"),
        **without(item, "id", "meta", "state", "action", "reward"),
    }
    session.add(StepStart(step=index, agent=agent, observation=given or None, source_time=when, extra=extra))
    calls = dicts(action.get("tool_calls"))
    answer: dict[str, Any] = {"role": "assistant", "content": action.get("content")}
    if calls:
        answer["tool_calls"] = calls
    usage = obj(action.get("usage"))
    messages = state.get("messages")
    call = session.add(
        LLMCall(
            step=index,
            agent=agent,
            source_time=when,
            origin="transcript",
            dialect="openai.chat",
            request={"messages": messages} if isinstance(messages, list) else None,
            response=answer,
            usage=usage or None,
            prompt_tokens=integer(usage.get("prompt_tokens")),
            completion_tokens=integer(usage.get("completion_tokens")),
            extra={k: v for k, v in (("context", state.get("context")), ("ext_info", action.get("ext_info"))) if v} or None,
        )
    )
    outputs = {str(o.get("tool_call_id")): o for o in dicts(reward.get("tool_outputs"))}
    for asked in calls:
        function = obj(asked.get("function"))
        id = text(asked.get("id"))
        output = obj(outputs.get(str(id)))
        made = session.add(
            Action(
                step=index,
                agent=agent,
                source_time=when,
                name=str(function.get("name") or asked.get("name") or ""),
                arguments=arguments(function.get("arguments", asked.get("arguments"))),
                result=output.get("content"),
                llm_call=call.id,
                tool_call_id=id,
                extra={"tool_output": output} if output else None,
            )
        )
        if id:
            actions[id] = made
    score = reward.get("score")
    if score is not None:
        value: Any = number(score)
        if value is None and isinstance(score, float):
            value = tagged("float", str(score))
        session.add(Reward(name="score", value=value, step=index, agent=agent, extra={"status": reward.get("status")}))
    return action.get("is_agent_finished") in (True, "True"), content_text(action.get("content"))
