"""Conversations for LLaMA-Factory, as ShareGPT or alpaca; the card has the entry for its `dataset_info.json`.

ShareGPT: `conversations` of `from` and `value`, human and observation in turn with gpt and function_call; `system`; `tools`
as JSON text. Alpaca: `instruction`, `output`, `history`, `system`. There is no mark for an answer that is not trained: with
`last_only=true` each trained answer is a row of its own, to be trained with `mask_history: true`. Source:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md and `llamafactory/data/converter.py` (0.9.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode, loads
from ...errors import InvalidInput
from ...trajectory import Trajectory
from . import LeftOut
from .chats import about, whole

NAME = "llama-factory"
FILES = ("jsonl",)
_BETWEEN = "\n</tool_response>\n<tool_response>\n"  # as its own converter joins results
_COLUMNS = {"messages": "conversations", "system": "system", "tools": "tools"}


class _Unfit(Exception):
    """Why a conversation does not fit."""


def rows(
    trajectory: Trajectory, left_out: LeftOut, *, style: str = "sharegpt", last_only: bool = False
) -> Iterator[dict[str, Any]]:
    """A row per conversation. `style`: sharegpt or alpaca; `last_only`: a row per trained answer, for `mask_history: true`."""
    if style not in ("sharegpt", "alpaca"):
        raise InvalidInput(f"no style {style!r}; there are: sharegpt, alpaca")
    for row in whole(trajectory, left_out, last_only):
        try:
            system, turns = _turns(row["messages"])
            made = _sharegpt(system, turns, row.get("tools") or []) if style == "sharegpt" else _alpaca(system, turns)
        except _Unfit as why:
            left_out(str(why))
            continue
        yield {**made, **about(trajectory)}


def _turns(messages: list[dict[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
    """The system prompt, and (from, value) in turn."""
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "system":
            if turns:
                raise _Unfit("a system message inside of a conversation")
            system.append(content or "")
            continue
        name = {"user": "human", "tool": "observation"}.get(role, "function_call" if message.get("tool_calls") else "gpt")
        value = content or ""
        if name == "function_call":
            if value.strip():
                raise _Unfit("an answer with text beside its tool call")
            functions = [call["function"] for call in message["tool_calls"]]
            value = encode([{"name": f["name"], "arguments": _arguments(f["arguments"])} for f in functions]).decode()
        last = turns[-1][0] if turns else None
        if name == last == "human":
            turns[-1] = (name, f"{turns[-1][1]}\n\n{value}")
        elif name == last == "observation":
            turns[-1] = (name, turns[-1][1] + _BETWEEN + value)
        elif (name in ("human", "observation")) is (len(turns) % 2 == 0):
            turns.append((name, value))
        else:
            raise _Unfit("messages that are not in turn: a user's words beside a tool's result, or two answers in a row")
    return "\n\n".join(system), turns


def _arguments(text: str) -> Any:
    try:
        return loads(text) if text.strip() else {}
    except InvalidInput:
        raise _Unfit("a tool call whose arguments are no JSON") from None


def _sharegpt(system: str, turns: list[tuple[str, str]], tools: list[Any]) -> dict[str, Any]:
    conversations = [{"from": name, "value": value} for name, value in turns]
    described = encode([t["function"] for t in tools]).decode() if tools else ""
    return {"conversations": conversations, "system": system, "tools": described}


def _alpaca(system: str, turns: list[tuple[str, str]]) -> dict[str, Any]:
    if any(name in ("observation", "function_call") for name, _ in turns):
        raise _Unfit("a conversation with tools, for which alpaca has no place: give style=sharegpt")
    *before, (_, instruction), (_, output) = turns
    pairs = [[before[n][1], before[n + 1][1]] for n in range(0, len(before), 2)]
    return {"instruction": instruction, "input": "", "output": output, "system": system, "history": pairs}


def card(manifest: dict[str, Any]) -> str:
    """What LLaMA-Factory has to be told."""
    options = manifest["options"]
    files = sorted(f["path"] for f in manifest.get("files", []) if str(f["path"]).endswith(".jsonl")) or ["data/train.jsonl"]
    columns = _COLUMNS if options.get("style", "sharegpt") == "sharegpt" else {
        "prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}  # fmt: skip
    formatting = options.get("style", "sharegpt")
    entry = {"odograph": {"file_name": files[0], "formatting": formatting, "columns": columns}}
    masks = "\nTrain with `mask_history: true`: only the last answer of a row is trained.\n" if options.get("last_only") else ""
    text = encode(entry).decode()
    return f"# Conversations for LLaMA-Factory\n\nThe entry for `dataset_info.json`:\n\n    {text}\n{masks}"
