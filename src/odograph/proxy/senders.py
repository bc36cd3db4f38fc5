"""Which program sent a request, and which of its sessions and agents: what the headers of known agents say. Pure.

Found with the agents' releases of 2026: Claude Code and its sub-agents, Codex and its threads, opencode. Others say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..codec import loads_or_raw

_LONGEST = 200
#: How a `user-agent` begins, and the name of the agent that sends it.
_PRODUCTS = {
    "claude-cli": "claude-code",
    "claude-code": "claude-code",
    "codex": "codex",
    "geminicli": "gemini-cli",
    "qwencode": "qwen-code",
    "opencode": "opencode",
    "ai-sdk": "opencode",
    "litellm": "litellm",
}
_CLAUDE_USER = re.compile(r"_session_([0-9a-fA-F-]{36})$")


class Sender(NamedTuple):
    """`agent` is None for the session's main agent; `name` is what the program calls a sub-agent, where it says so."""

    product: str | None = None
    session: str | None = None
    agent: str | None = None
    name: str | None = None


def sender(headers: Mapping[str, str]) -> Sender:
    """Who sent a request, by its headers."""
    product = _product(headers.get("user-agent", ""))
    claude = _short(headers.get("x-claude-code-session-id"))
    if claude is not None:
        return Sender("claude-code", claude, _short(headers.get("x-claude-code-agent-id")))
    if "x-codex-turn-metadata" in headers or "x-codex-window-id" in headers or product == "codex":
        return _codex(headers)
    session = _short(headers.get("x-session-id")) or _short(headers.get("x-session-affinity"))
    return Sender(product, session)


def _codex(headers: Mapping[str, str]) -> Sender:
    about = loads_or_raw(headers.get("x-codex-turn-metadata", "{}").encode("utf-8", "replace"))
    about = about if isinstance(about, dict) else {}
    session = _short(headers.get("session-id")) or _short(headers.get("session_id")) or _short(about.get("session_id"))
    thread = _short(headers.get("thread-id")) or _short(about.get("thread_id"))
    path = _short(about.get("agent_name"))
    # Codex of 2026 calls each agent `/root`, unless agents name the ones that they start
    started = "x-codex-parent-thread-id" in headers or "parent_thread_id" in about
    same = thread is None or session is None or thread == session
    if path in (None, "/root") and (same or (path is not None and not started)):
        return Sender("codex", session or thread)
    kind = _short(headers.get("x-openai-subagent")) if path in (None, "/root") else path
    name = None if kind in (None, "collab_spawn") else kind.rstrip("/").rpartition("/")[2] or None
    return Sender("codex", session or thread, thread or path, name)


def session_in(request: Any) -> str | None:
    """The session that a request's body names: the conversation that a server of the Responses API keeps, and Claude Code's, of
    releases without the header."""
    kept = request.get("conversation") if isinstance(request, dict) else None
    kept = kept.get("id") if isinstance(kept, dict) else kept
    if _short(kept) is not None:
        return _short(kept)
    about = request.get("metadata") if isinstance(request, dict) else None
    user = about.get("user_id") if isinstance(about, dict) else None
    if not isinstance(user, str):
        return None
    found = loads_or_raw(user.encode("utf-8", "replace")) if user.startswith("{") else None
    if isinstance(found, dict):
        return _short(found.get("session_id"))
    old = _CLAUDE_USER.search(user)
    return old[1] if old else None


def _product(agent: str) -> str | None:
    lower = agent.lower()
    return next((name for start, name in _PRODUCTS.items() if lower.startswith(start)), None)


def _short(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST else None
