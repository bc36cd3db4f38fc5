"""What a person typed in Claude Code, and what attachments add to the next request: what was edited, found or told by hooks."""

from __future__ import annotations

from typing import Any

from ...shape import dicts, obj

#: What the program itself writes in a person's place.
_NOT_ASKED = (
    "<command-",
    "<local-command-",
    "<bash-",
    "<system-reminder>",
    "<task-notification>",
    "<user-prompt-submit-hook>",
    "Caveat: The messages below",
    "[Request interrupted",
    "This session is being continued from a previous",
)
#: Attachments whose content is what the model was told.
_TOLD = (
    "hook_additional_context",
    "critical_system_reminder",
    "skill_listing",
    "output_style",
    "selected_lines_in_ide",
    "ultramemory",
)
#: Attachments that the program puts into words of its own: they stand in prompts as they are.
_SHOWN = (
    "file", "new_file", "directory", "new_directory", "nested_memory", "relevant_memories",
    "mcp_resource", "compact_file_reference", "pdf_reference", "opened_file_in_ide", "agent_mention", "invoked_skills",
    "todo", "todo_reminder", "task_reminder", "task_status", "task_progress", "plan_mode",
    "plan_mode_reentry", "plan_mode_exit", "plan_file_reference", "teammate_mailbox", "date_change", "token_usage",
    "budget_usd",
)  # fmt: skip


def attached(event: dict[str, Any]) -> dict[str, Any] | None:
    """What an attachment adds to the next request, where the file says its text."""
    about = event.get("attachment")
    if event.get("type") != "attachment" or not isinstance(about, dict):
        return None
    kind, content = about.get("type"), about.get("content")
    if kind == "queued_command":
        return {"role": "user", "content": about["prompt"]} if about.get("prompt") else None
    said: Any = None
    if kind == "edited_text_file" and isinstance(about.get("snippet"), str):
        said = f"{about.get('filename')}\n{about['snippet']}"
    elif kind == "diagnostics" and about.get("files"):
        return {"role": "user", "content": [{"type": "diagnostics", "files": about["files"]}]}
    elif kind == "hook_success":  # what other hooks print is shown to people alone
        said = content if about.get("hookEvent") in ("SessionStart", "UserPromptSubmit") else None
    elif kind == "hook_blocking_error":
        said = obj(about.get("blockingError")).get("blockingError")
    elif kind == "async_hook_response":
        answer = obj(about.get("response"))
        both = (answer.get("systemMessage"), obj(answer.get("hookSpecificOutput")).get("additionalContext"))
        said = "\n".join(t for t in both if isinstance(t, str) and t)
    elif kind == "hook_stopped_continuation":
        said = about.get("message")
    elif kind in ("mcp_instructions_delta", "deferred_tools_delta", "agent_listing_delta"):
        told = about.get("addedBlocks") if kind == "mcp_instructions_delta" else about.get("addedLines")
        said = "\n".join(c for c in told if isinstance(c, str)) if isinstance(told, list) else None
    elif kind in _TOLD:
        said = "\n".join(c for c in content if isinstance(c, str)) if isinstance(content, list) else content
    elif kind in _SHOWN and about.get("content", about):
        return {"role": "user", "content": [{**about}]}
    return {"role": "user", "content": said} if isinstance(said, str) and said else None


def prompt(event: dict[str, Any]) -> str | None:
    """The text that stands in a person's place, where a line is that."""
    if event.get("type") != "user" or event.get("isMeta") or event.get("isCompactSummary"):
        return None
    content = obj(event.get("message")).get("content")
    if isinstance(content, str):
        return content
    blocks = dicts(content)
    if any(b.get("type") == "tool_result" for b in blocks):
        return None
    return next((b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str)), None)


def typed(event: dict[str, Any]) -> str | None:
    """What a person typed: a prompt that is no mark-up of the program's."""
    found = prompt(event)
    if found is None:
        attached = obj(event.get("attachment"))
        if attached.get("type") == "queued_command" and attached.get("commandMode") in (None, "prompt"):
            found = attached.get("prompt") if isinstance(attached.get("prompt"), str) else None
    return found if found and not found.lstrip().startswith(_NOT_ASKED) else None


def command(event: dict[str, Any]) -> str | None:
    """A slash command as it was typed."""
    found = prompt(event) or ""
    name = _between(found, "<command-name>", "</command-name>")
    if not name or name == "/clear":
        return None
    return f"{name} {_between(found, '<command-args>', '</command-args>')}".strip()


def _between(value: str, start: str, stop: str) -> str:
    _, found, rest = value.partition(start)
    return rest.partition(stop)[0].strip() if found else ""
