"""OpenAI's fine-tuning rows: `messages` and `tools`, a row per conversation; `weight` 0 on what is not to be trained.

Source: https://platform.openai.com/docs/guides/supervised-fine-tuning. A conversation is the last call whose prompt extends
the ones before, with its answer; a call whose prompt does not extend them begins another row. An assistant message is
trained in one row only, and only if the model generated it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode
from ...trajectory import Call, Trajectory
from . import LeftOut

NAME = "openai"
FILES = ("jsonl",)
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class _Conversation:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.answers: list[bytes] = []
        self.tools: list[Any] = []


def rows(trajectory: Trajectory, left_out: LeftOut, **options: Any) -> Iterator[dict[str, Any]]:
    """The trajectory's conversations, each agent's own."""
    trained: set[bytes] = set()
    agents: dict[str | None, list[Call]] = {}
    for call in trajectory.llm_calls:
        if call.purpose != "act":
            left_out(f"a call for {call.purpose}")
        elif not call.choices:
            left_out("a call without an answer" if call.error is None else "a call that failed")
        elif not call.messages:
            left_out("a call whose prompt is not known")
        else:
            agents.setdefault(call.agent, []).append(call)
    for calls in agents.values():
        current: _Conversation | None = None
        for call in calls:
            messages = call.messages
            answer = _message(call.choices[0].message)
            if current is not None and not _extends(messages, current.sent):
                yield from _row(current, trained, left_out)
                current = None
            if current is None:
                current = _Conversation()
            current.sent = [*messages, call.choices[0].message]
            current.tools = call.tools or current.tools
            current.answers.append(_key(answer))
        if current is not None:
            yield from _row(current, trained, left_out)
    if not trajectory.llm_calls:
        left_out("no call of a model")


def _extends(messages: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    """Whether a prompt begins with an earlier prompt and its answer, which agents may send back in fewer words."""
    size = len(before)
    if len(messages) < size:
        return False
    return messages[: size - 1] == before[: size - 1] and _key(_message(messages[size - 1])) == _key(_message(before[size - 1]))


def _row(conversation: _Conversation, trained: set[bytes], left_out: LeftOut) -> Iterator[dict[str, Any]]:
    generated = set(conversation.answers)
    messages: list[dict[str, Any]] = []
    learns = False
    for position, message in enumerate(conversation.sent):
        shaped = _message(message)
        if shaped["role"] == "assistant":
            if shaped["content"] is None and "tool_calls" not in shaped:
                shaped["content"] = ""
            place = encode([conversation.sent[:position], _key(shaped).decode()])
            if _key(shaped) in generated and place not in trained:
                trained.add(place)
                learns = True
            else:
                shaped["weight"] = 0
        messages.append(shaped)
    if not learns:
        left_out("a conversation in which nothing was generated")
        return
    tools = [t if isinstance(t, dict) and "function" in t else {"type": "function", "function": _function(t)} for t in conversation.tools]
    yield {"messages": messages, **({"tools": tools} if tools else {})}


def _function(tool: Any) -> dict[str, Any]:
    """The schema of a tool in another dialect's shape."""
    t = tool if isinstance(tool, dict) else {"name": str(tool)}
    parameters = t.get("parameters", t.get("input_schema")) or {"type": "object", "properties": {}}
    return {"name": str(t.get("name")), "description": str(t.get("description") or ""), "parameters": parameters}


def _key(message: dict[str, Any]) -> bytes:
    calls = message.get("tool_calls") or []
    return encode([message["role"], message.get("content") or "", [(c["function"]["name"], c["function"]["arguments"]) for c in calls]])


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message with the fields that the format has, and no other."""
    role = message.get("role")
    role = role if role in _ROLES else "user"
    content = message.get("content")
    if role == "tool" and not isinstance(content, str):
        content = "" if content is None else encode(content).decode()
    elif content is not None and not isinstance(content, (str, list)):
        content = encode(content).decode()
    elif content is None and role != "assistant":
        content = ""
    out: dict[str, Any] = {"role": role, "content": content}
    calls = message.get("tool_calls")
    if role == "assistant" and isinstance(calls, list) and calls:
        out["tool_calls"] = [_call(c, i) for i, c in enumerate(calls)]
    if role == "tool":
        out["tool_call_id"] = str(message.get("tool_call_id") or "")
    if isinstance(message.get("name"), str):
        out["name"] = message["name"]
    return out


def _call(call: Any, index: int) -> dict[str, Any]:
    c = call if isinstance(call, dict) else {}
    function = c.get("function") if isinstance(c.get("function"), dict) else {}
    arguments = function.get("arguments")
    given = arguments if isinstance(arguments, str) else encode(arguments if arguments is not None else {}).decode()
    return {
        "id": str(c.get("id") or f"call_{index}"),
        "type": "function",
        "function": {"name": str(function.get("name") or ""), "arguments": given},
    }


def schema() -> Any:
    """There is none: the format is JSON lines."""
    raise TypeError("openai has no Arrow schema; it is written as jsonl")
