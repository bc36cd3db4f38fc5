"""The lines of a Codex rollout as events, and which of them repeat another thread: those of a fork's or a sub-agent's parent."""

from __future__ import annotations

import re
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import arguments, content_text, dicts, integer, nanoseconds, number, obj, text
from .. import peek
from ..session import Lines, parse_time, unrepeated

CALLS = ("function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call")
SERVER = ("image_generation_call",)  # the backend's own doing: part of the reply, no action of the agent
OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output")
#: What answers a call.
_ANSWERS = {
    "function_call": "function_call_output",
    "local_shell_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
_ITEMS = (*CALLS, *SERVER, *OUTPUTS, "message", "agent_message", "reasoning")
#: What the program writes in the place of a result that a person did not wait for.
_ABORTED = re.compile(r"(?:Wall time: [\d.]+ seconds\n)?aborted by user(?: after ([\d.]+)s)?\s*$")
_CODE = re.compile(r"^(?:Exit code:|Process exited with code) (-?\d+)\s*$", re.MULTILINE)
_WALL = re.compile(r"^Wall time:? ([\d.]+) seconds", re.MULTILINE)
#: How a script of tool calls ("code mode") ended.
_SCRIPT = re.compile(r"Script (completed|failed|terminated)\n")
#: What the program tells the model in the place of a result, where it did not run a tool, or gave up.
_NOT_RUN = re.compile(
    r"(?:exec command|patch) rejected by user|(?:exec_command|write_stdin|apply_patch verification) failed\b"
    r"|command timed out after |failed to parse function arguments: |unsupported (?:custom tool )?call: |execution error: "
    r"|unable to locate image at "
)
#: What Codex itself writes in a person's place.
_NOT_ASKED = ("<environment_context>", "<user_instructions>", "<turn_aborted>", "<skill>", "<user_shell_command>",
              "<subagent_notification>", "<permissions", "# AGENTS.md instructions")  # fmt: skip
_PAUSE = 1_000_000_000  # ns; a fork's repeated lines are written in one go, closer together than this


class Row(NamedTuple):
    kind: str
    payload: dict[str, Any]
    when: int | None
    ordinal: int | None


class Rollout:
    """The events of one file. `meta` is what its thread says of itself: the first `session_meta`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = Lines(path)
        found = list(unrepeated((v for _, v in lines), _name))
        values = [v for n, v in enumerate(found) if n == 0 or v != found[n - 1] or "timestamp" not in v]
        self.first: dict[str, Any] = values[0] if values else {}
        self.rows: list[Row] = [_row(v) for v in values]
        self.problems: list[str] = lines.problems
        self.glued: int = lines.glued
        self.meta: dict[str, Any] = next((r.payload for r in self.rows if r.kind == "session_meta"), {})

    @property
    def identity(self) -> tuple[tuple[Any, ...], int | None]:
        """What the thread is known by, and when it began."""
        began = parse_time(self.meta.get("timestamp")) or (self.rows[0].when if self.rows else None)
        id = text(self.meta.get("id"))
        if id is None:
            return (content_hash(self.first),), began
        return identity(id, began, self.meta.get("timestamp") if self.goes_on else None)

    @property
    def goes_on(self) -> bool:
        """Whether the file is a later part of its thread: one begins where the thread was reverted."""
        base, of = obj(self.meta.get("history_base")), self.meta.get("forked_from_id")
        if not base or base.get("thread_id") == self.meta.get("id"):
            return bool(base)
        if of is None:  # a base is named by its part, not by its thread, from the third part on
            return self.meta.get("parent_thread_id") is None and not spawned(self.meta)
        forked = integer(self.meta.get("forked_from_ordinal_exclusive"))
        return forked is not None and forked != integer(base.get("end_ordinal_exclusive"))

    def parent(self) -> Row | None:
        """The `session_meta` of the thread whose lines are repeated at the beginning, right after this thread's own."""
        second = next((r for r in self.rows[1:3] if r.kind == "session_meta"), None)
        own, id = self.meta.get("id"), second.payload.get("id") if second else None
        named = (self.meta.get("forked_from_id"), self.meta.get("parent_thread_id"), spawned(self.meta).get("parent_thread_id"))
        return second if second is not None and id != own and (id in named or named == (None, None, None)) else None

    def shared(self) -> int:
        """How many rows at the beginning repeat another thread's."""
        start = integer(self.meta.get("subagent_history_start_ordinal"))
        if start is not None and any(r.ordinal is not None for r in self.rows):
            return next(
                (n for n, r in enumerate(self.rows) if r.ordinal is not None and r.ordinal >= start and n), len(self.rows)
            )
        if self.parent() is None:
            return 0
        rows = self.rows
        end = len(rows)
        for n in range(1, len(rows)):
            before, now = rows[n - 1].when, rows[n].when
            if before is not None and now is not None and now - before >= _PAUSE:
                end = n
                break
        if end == len(rows) or not _generated(rows[end]):
            return end
        # the first reply of its own comes after the pause: its turn began before it
        last = next((n for n in range(end - 1, 0, -1) if _generated(rows[n])), 1)
        turns = [
            n for n in range(last + 1, end) if rows[n].kind == "turn_context" or rows[n].payload.get("type") == "task_started"
        ]
        return turns[-1] if turns else end


def _generated(row: Row) -> bool:
    kind = row.payload.get("type")
    if row.kind == "event_msg":
        return kind == "token_count"
    if row.kind == "token_usage_record":
        return True
    return row.kind == "response_item" and (kind in CALLS or kind == "reasoning" or row.payload.get("role") == "assistant")


def _name(line: dict[str, Any]) -> str | None:
    """What a line is, and when it was written, where it has an id: one that says the same again was written twice. A fork writes
    its parent's lines with one time, and what a person says has no id."""
    about = obj(line.get("payload"))
    when, id = text(line.get("timestamp")), text(about.get("call_id")) or text(about.get("id"))
    return f"{when} {line.get('type')} {about.get('type')} {id}" if when and id else None


def counts_of(kind: str, payload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """For a line that counts tokens: those of the thread, and those of its last reply."""
    if kind == "token_usage_record":
        return obj(payload.get("thread_token_usage")), obj(payload.get("usage"))
    info = obj(payload.get("info")) if kind == "event_msg" and payload.get("type") == "token_count" else {}
    return (obj(info.get("total_token_usage")), obj(info.get("last_token_usage"))) if info else None


def repeats(payload: dict[str, Any]) -> bool:
    """Whether an item says again what a `response_item` says."""
    return obj(payload.get("item")).get("type") in ("UserMessage", "AgentMessage", "Reasoning")


def spawned(meta: dict[str, Any]) -> dict[str, Any]:
    """What a sub-agent's file says of how it was started."""
    subagent = obj(obj(meta.get("source")).get("subagent"))
    return obj(subagent.get("thread_spawn")) or (
        {"agent_role": k} if (k := obj(meta.get("source")).get("subagent")) and isinstance(k, str) else {}
    )


def identity(id: str, began: int | None = None, more: Any = None) -> tuple[tuple[Any, ...], int | None]:
    """What a thread is known by, and the time in its id; where there is none (old versions), when it began."""
    try:
        found = uuid.UUID(id)
        when = (found.int >> 80) * 1_000_000 if found.version == 7 else began
    except ValueError:
        when = began
    return (id,) if more is None else (id, more), when


def _row(value: dict[str, Any]) -> Row:
    when = parse_time(value.get("timestamp"))
    ordinal = integer(value.get("ordinal"))
    if isinstance(value.get("payload"), dict):
        return Row(str(value.get("type")), value["payload"], when, ordinal)
    if value.get("type") in _ITEMS:
        return Row("response_item", value, when, ordinal)
    if "type" not in value and "id" in value:
        return Row("session_meta", value, when, ordinal)
    return Row(str(value.get("type") or value.get("record_type")), value, when, ordinal)


def find_rollout(near: Path, thread: str) -> Path | None:
    """The file of another thread: in the folder of `near`, or in the tree of days (`YYYY/MM/DD`) that it is in."""
    if not thread or not all(c.isalnum() or c in "-_" for c in thread):
        return None
    folder = near.parent
    for path in peek.files_in(folder, "*.jsonl"):
        if path != near and (thread in path.name or _thread_of(path) == thread):
            return path
    if all(p.isdigit() for p in near.parts[-4:-1]) and len(near.parts) > 4:
        return next(iter(peek.files_in(near.parents[3], f"*/*/*/*{thread}*.jsonl")), None)
    return None


def _thread_of(path: Path) -> str | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return _thread_in(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4096)
def _thread_in(path: Path, size: int, changed: int) -> str | None:
    """The thread that a file's first line names: looked at once for each state of the file."""
    try:
        with path.open("rb") as file:
            value = loads(file.readline(4 * 1024 * 1024))
    except (OSError, InvalidInput):
        return None
    return text(obj(obj(value).get("payload")).get("id")) if obj(value).get("type") == "session_meta" else None


def answer(unmet: set[str | None], history: list[Any]) -> None:
    """Puts what Codex sends in the place of an answer behind each call of the last reply that nothing answered. No request holds
    these calls yet."""
    for at in range(len(history) - 1, -1, -1):
        if not unmet:
            return
        about = obj(history[at])
        kind, id = _ANSWERS.get(text(about.get("type")) or ""), text(about.get("call_id"))
        if kind is not None and id in unmet:
            unmet.remove(id)
            history.insert(at + 1, {"type": kind, "call_id": id, "output": "aborted"})
    unmet.clear()


def outcome_of(output: Any) -> dict[str, Any]:
    """Whether a command succeeded and how long it took, where its output says so."""
    data = arguments(output) if isinstance(output, str) else output
    about = obj(obj(data).get("metadata"))
    code = integer(about.get("exit_code"))
    success = obj(data).get("success")
    seconds = number(about.get("duration_seconds"))
    if isinstance(data, list):
        data = content_text(dicts(data))
    if isinstance(data, str):  # what stands before the output itself
        head = data.partition("\nOutput:")[0][:2000]
        found, wall = _CODE.search(head), _WALL.search(head)
        code = int(found[1]) if found else None
        aborted, script = _ABORTED.match(data), _SCRIPT.match(data)
        took = (aborted[1] if aborted else None) or (wall[1] if wall else None)
        seconds = float(took) if took and took.count(".") <= 1 and took != "." else None
        success = script[1] == "completed" if script else False if aborted or _NOT_RUN.match(data) else success
    ok = code == 0 if code is not None else success if isinstance(success, bool) else None
    return {"ok": ok, "duration": nanoseconds(seconds)}


def key_of(item: dict[str, Any], when: int | None) -> str:
    """What an item is known by: its own id, else what it says and when."""
    return text(item.get("call_id")) or text(item.get("id")) or content_hash([when, item])


def is_asked(item: Any) -> bool:
    """Whether an item is what a person said: a user's message that Codex did not write itself."""
    about = obj(item)
    if about.get("type") != "message" or about.get("role") != "user":
        return False
    said = content_text(about.get("content"))
    return said is None or not said.lstrip().startswith(_NOT_ASKED)
