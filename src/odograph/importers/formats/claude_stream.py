"""What `claude -p --output-format stream-json` prints: JSON lines with `session_id`, from `system` `init` to `result`.

The lines are those of a Claude Code session in another dress, and are read as such. The stream does not say what the person
asked (unless user messages are replayed), so that prompts begin after it. `result` says how it ended, what it cost and how long
it took; sub-agents are the lines with a `parent_tool_use_id`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...shape import added, integer, number, obj, text
from ...types import End, Note, Start, Status
from .. import peek
from ..session import Lines, NotBegun, Session
from .claude_code import replayed
from .claude_files import File

NAME = "claude-stream"


def recognise(path: Path, head: bytes) -> bool:
    """Lines with `session_id` of type `system`, `assistant`, `user` or `result` within the first 20."""
    for line in head.split(b"\n")[:20]:
        try:
            value = peek.value(line)
        except InvalidInput:
            continue
        if not isinstance(value, dict):
            return False
        if "session_id" in value and value.get("type") in ("system", "assistant", "user", "result", "stream_event"):
            return value.get("type") != "system" or value.get("subtype") is not None
    return False


class _Stream(File):
    """The stream's lines as those of a session's file."""

    def __init__(self, path: Path) -> None:
        self.init: dict[str, Any] = {}
        self.result: dict[str, Any] | None = None
        super().__init__(path)

    def _merged(self, lines: Any) -> list[dict[str, Any]]:
        return super()._merged(self._dressed(lines))

    def _dressed(self, lines: Lines) -> Iterator[tuple[int, Any]]:
        last: dict[Any, str] = {}
        for at, value in lines:
            if not isinstance(value, dict):
                yield at, value
                continue
            kind = value.get("type")
            if kind == "result":
                self.result = value
            elif kind != "stream_event":  # a part of a message that comes whole later
                if kind == "system" and value.get("subtype") == "init":
                    self.init = self.init or value
                above = text(value.get("parent_tool_use_id"))
                uuid = text(value.get("uuid")) or content_hash(value)
                yield (
                    at,
                    {
                        **{k: v for k, v in value.items() if k not in ("session_id", "parent_tool_use_id")},
                        "uuid": uuid,
                        "sessionId": value.get("session_id"),
                        **({"parentUuid": last[above]} if above in last else {}),
                        "isSidechain": above is not None,
                        **({"agentId": above, "_call": above} if above else {}),
                        **({"toolUseResult": value["tool_use_result"]} if "tool_use_result" in value else {}),
                    },
                )
                last[above] = uuid


def read(path: Path) -> Iterator[Session]:
    """The session of a stream. Raises InvalidInput where it has no message."""
    stream = _Stream(path)
    first = stream.first
    if first is None and stream.result is None:
        raise NotBegun("a stream of Claude Code without a message")
    init = stream.init
    id = init.get("session_id") or (first or stream.result or {}).get("sessionId", (stream.result or {}).get("session_id"))
    session = replayed(stream, first, Session(NAME, id)) if first is not None else Session(NAME, id)
    if first is None:
        session.add(Start(agent="claude-code", metadata={"source": {"format": NAME, "path": path.name}}), "start")
    start = session.records[0]
    assert isinstance(start, Start)
    source = {**start.metadata["source"], "format": NAME, "session": id}
    about = {k: init[k] for k in ("cwd", "tools", "permissionMode", "mcp_servers") if init.get(k)}
    source = {k: v for k, v in {**source, **about}.items() if k != "interactive"}
    session.replace(
        start, model=text(init.get("model")), metadata={"source": source}, agent_version=text(init.get("claude_code_version"))
    )
    if first is None and init:
        session.add(Note(name="system:init", data=init), "event", text(init.get("uuid")) or content_hash(init))
    if stream.result is not None:
        session.add(_end(stream.result), "end")
    yield session


def _end(result: dict[str, Any]) -> End:
    kind = str(result.get("subtype"))
    status: Status = (
        "truncated" if "max_turns" in kind or "budget" in kind else "failed" if result.get("is_error") else "completed"
    )
    usage = obj(result.get("usage"))
    used = [u for u in obj(result.get("modelUsage")).values() if isinstance(u, dict)]  # those of sub-agents, too
    sent = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    metrics = {
        "prompt_tokens": added(*(integer(u.get(name)) for u in used for name in sent)),
        "completion_tokens": added(*(integer(u.get("outputTokens")) for u in used)),
        "cost": number(result.get("total_cost_usd")),
        **{
            k: result[k]
            for k in ("duration_ms", "duration_api_ms", "num_turns", "modelUsage", "permission_denials")
            if result.get(k)
        },
        "usage": usage or None,
        "output_tokens": integer(usage.get("output_tokens")),
    }
    error = kind if status != "completed" else None
    return End(
        status=status, answer=result.get("result"), error=error, metrics={k: v for k, v in metrics.items() if v is not None}
    )
