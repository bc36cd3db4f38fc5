"""Messages of Anthropic's shape, content blocks and all -> a transcript. Several agents keep their sessions that way."""

from __future__ import annotations

from typing import Any

from ..shape import dicts, items, obj, text
from ..types import LLMCall
from .transcript import Transcript


def told(content: Any) -> str | None:
    """What a person said: the first text of a message that no program wrote around it."""
    if isinstance(content, str):
        return content or None
    for block in items(content):
        said = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else block
        if isinstance(said, str) and said.strip() and not said.lstrip().startswith(("<system-reminder", "<environment_details")):
            return said
    return None


def acted(transcript: Transcript, content: Any, call: LLMCall, when: int | None = None) -> int:
    """The actions of the tools that an answer asks for: how many wait for a result. Tools that the API ran itself
    (`server_tool_use`) are actions, too; their results are in the answer."""
    waiting = 0
    for block in dicts(content):
        name, id = str(block.get("name") or ""), text(block.get("id"))
        if block.get("type") == "tool_use":
            transcript.acted(name, block.get("input"), id=id, call=call, when=when)
            waiting += 1
        elif block.get("type") == "server_tool_use":
            result, extra = served(content, id), {"server_tool_use": id}
            transcript.acted(name, block.get("input"), call=call, when=when, result=result, extra=extra)
    return waiting


def served(content: Any, id: str | None) -> Any:
    """What a tool that the API ran gave back, in the same answer."""
    return next((b.get("content") for b in dicts(content) if id and b.get("tool_use_id") == id), None)


def resulted(transcript: Transcript, results: list[dict[str, Any]]) -> bool:
    """Takes in the results of tools. False where one answers no call."""
    known = True
    for block in results:
        ok = None if not isinstance(block.get("is_error"), bool) else not block["is_error"]
        asked = text(block.get("tool_use_id")) or text(block.get("toolUseID"))
        known = transcript.result(asked, result=block.get("content", obj(block.get("run")).get("result")), ok=ok) and known
    return known


def add(transcript: Transcript, message: dict[str, Any], *, id: str | None = None, **fields: Any) -> LLMCall | None:
    """A message of `role` and `content`: an answer with the tools that it asks for, or what the model is sent, with the
    results of tools. `fields` are those of the call; `id` is what the source calls the message."""
    sent = {"role": text(message.get("role")) or "user", "content": message.get("content")}
    blocks = dicts(sent["content"])
    if sent["role"] == "assistant":
        call = transcript.replied(sent, id=id, **fields)
        acted(transcript, blocks, call, fields.get("when"))
        return call
    results = [b for b in blocks if b.get("type") == "tool_result"]
    transcript.saw(
        sent,
        observed=len(results) < len(blocks) or isinstance(sent["content"], str),
        noted=bool(results) and len(results) == len(blocks),
        id=id,
        when=fields.get("when"),
    )
    for block in results:
        if not resulted(transcript, [block]):
            transcript.session.warn("tool results that no call in the file asked for")
    return None
