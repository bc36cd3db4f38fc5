"""What the attachments of Claude Code add to the next request: what was edited, found, typed meanwhile or told by hooks."""

from __future__ import annotations

from typing import Any

from ...shape import obj

#: Attachments whose content is what the model was told.
_TOLD = (
    "hook_additional_context",
    "critical_system_reminder",
    "skill_listing",
    "invoked_skills",
    "output_style",
    "selected_lines_in_ide",
)


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
        said = obj(obj(about.get("response")).get("hookSpecificOutput")).get("additionalContext")
    elif kind in ("mcp_instructions_delta", "deferred_tools_delta", "agent_listing_delta"):
        told = about.get("addedBlocks") if kind == "mcp_instructions_delta" else about.get("addedLines")
        said = "\n".join(c for c in told if isinstance(c, str)) if isinstance(told, list) else None
    elif kind in _TOLD:
        said = "\n".join(c for c in content if isinstance(c, str)) if isinstance(content, list) else content
    elif kind in ("file", "nested_memory", "directory", "mcp_resource", "todo_reminder", "task_reminder", "plan_file_reference"):
        if content or about.get("planContent"):
            return {"role": "user", "content": [{**about}]}
    return {"role": "user", "content": said} if isinstance(said, str) and said else None
