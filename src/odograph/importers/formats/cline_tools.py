"""Tools of Cline, Roo Code and Kilo Code: the calls that older versions ask for in XML, in the text of an answer, and how a tool
went, as the text around its output says.

Source: cline/cline and RooCodeInc/Roo-Code, src/core: assistant-message, prompts/responses, tools.
"""

from __future__ import annotations

import re
from typing import Any

from ...shape import content_text, dicts

_BEGUN = re.compile(
    r"^[ \t]*<(access_mcp_resource|apply_diff|apply_patch|ask_followup_question|attempt_completion|browser_action|codebase_search"
    r"|condense|delete_file|edit_file|execute_command|explain_changes|fetch_instructions|focus_chain|generate_explanation"
    r"|generate_image|insert_content|list_code_definition_names|list_files|load_mcp_documentation|new_rule|new_task"
    r"|plan_mode_respond|read_file|replace_in_file|report_bug|run_slash_command|search_and_replace|search_files|summarize_task"
    r"|switch_mode|update_todo_list|use_mcp_tool|use_skill|web_fetch|web_search|write_to_file)>",
    re.MULTILINE,
)
_GIVEN = re.compile(r"<(\w+)>")
_LONG = ("content", "diff")  # what they hold may have tags of its own
_CODE = re.compile(r"\bExit code: (-?\d+)\s*$", re.MULTILINE)
_FAILED = ("The tool execution failed with the following error:", "The user denied this operation", "[ERROR]")


def calls_in(content: Any) -> list[tuple[str, dict[str, str]]]:
    """The tools that an answer asks for in its text, with their arguments. One that was cut off was not run, and is none."""
    said = (content_text(content) or "").replace("\r\n", "\n")
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while (begun := _BEGUN.search(said, at)) is not None:
        name = begun[1]
        end = said.find(f"</{name}>", begun.end())
        if end < 0:
            break
        found.append((name, _arguments(said[begun.end() : end])))
        at = end + len(name) + 3
    return found


def _arguments(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while (given := _GIVEN.search(body, at)) is not None:
        name = given[1]
        end = body.rfind(f"</{name}>") if name in _LONG else body.find(f"</{name}>", given.end())
        if end < given.end():
            break
        value = body[given.end() : end]
        found[name] = value.removeprefix("\n").removesuffix("\n") if name in _LONG else value.strip()
        at = end + len(name) + 3
    return found


def result_in(content: Any, name: str) -> Any:
    """What a message says that the tool of a name gave: a text, or blocks with images. None where it says none."""
    blocks = dicts(content)
    for at, block in enumerate(blocks):
        said = block.get("text")
        if not isinstance(said, str) or not said.startswith(f"[{name}") or "] Result:" not in said:
            continue
        rest = said.partition("] Result:")[2].strip("\n")
        more = []
        for other in blocks[at + 1 :]:
            if isinstance(told := other.get("text"), str) and told.startswith(("<environment_details>", "[")):
                break
            more.append(other)
        given = [*([{"type": "text", "text": rest}] if rest else []), *more]
        only = given[0].get("text") if len(given) == 1 else None
        return given if only is None else only
    return None


def went_well(result: Any) -> bool | None:
    """Whether a tool succeeded, where the text that the model was sent says so."""
    told = content_text(result) or ""
    if told.startswith(_FAILED):
        return False
    found = _CODE.search(told.partition("\nOutput:")[0]) if told.startswith("Command executed") else None
    return int(found[1]) == 0 if found else None
