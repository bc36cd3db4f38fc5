"""A session as Markdown: what people said is quoted, what programs said is fenced, so that no content can leave its place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import shown
from ..dialects.content import as_text, marked
from ..trajectory import Trajectory
from .phrases import brief, call_line, figures, gone, hidden
from .terminal import line, number, safe

_TICKS = re.compile(r"`+")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#!~])")


def session(t: Trajectory, *, full: bool = False, step: int | None = None, agent: str | None = None) -> Iterator[str]:
    """The lines of a Markdown page."""
    entries = shown.session(t, step=step, agent=agent)
    first = next(entries, None)
    about = shown.facts(t)
    yield f"# {_inline(as_text(t.task)) if t.task is not None else t.id}"
    yield ""
    names = ("id", "agent", "model", "status", "reward", "steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens")
    for name in (*names, "cost", "started", "duration", "group", "sub_agent_of" if about["sub_agent_of"] else "fork_of"):
        if about[name] is not None:
            value = number(about[name]) if isinstance(about[name], int | float) else _inline(str(about[name]))
            yield f"- {name.replace('_', ' ')}: {value}"
    for entry in brief([] if first is None else [first], entries):
        if lines := list(_entry(entry, t.agent, full)):
            yield ""
            yield from (("> " * entry.depth + text).rstrip() for text in lines)


def _entry(entry: shown.Entry, agent: str | None, full: bool) -> Iterator[str]:
    a = entry.about
    match entry.kind:
        case "step":
            who = f" · {_inline(entry.agent)}" if entry.agent and (entry.agent != agent or entry.depth) else ""
            known = "".join(f" · {f'{name} {text}'.strip()}" for name, text in figures(a))
            yield f"## Step {entry.step}{who}{known}"
        case "outcome":
            yield f"## {str(a['status']).capitalize()}"
            for name in ("answer", "error"):
                if a[name] is not None:
                    yield from ("", f"**{name}**", "", *_quoted(as_text(a[name]), full))
        case "observation":
            yield from ("**observed**", "", *_fenced(as_text(a["value"]), full))
        case "context":
            data = a["error"] if a["error"] is not None else a["data"]
            asked = f" {_inline(as_text(a['query']))}" if a["query"] is not None else ""
            yield from (f"**read {_inline(a['provider'])}**{asked}", "", *_fenced(as_text(data), full))
        case "history":
            yield f"*{gone(a)}*"
        case "message" | "answer":
            name = a["role"] if entry.kind == "message" else "assistant" if a["of"] == 1 else f"assistant, choice {a['choice']}"
            text = marked(a["content"])[0] if entry.kind == "message" else a["text"] + marked(a["media"])[0]
            calls = [one for one in a["tool_calls"] if not one["done"]]
            if text.strip() or calls:
                yield f"**{_inline(name)}**"
            if text.strip():
                yield from ("", *(_fenced(text, full) if name == "tool" else _quoted(text, full)))
            for one in calls:
                yield from ("", f"→ {_code(str(one['name']))}", "", *_fenced(as_text(one["arguments"]), full))
        case "call":
            yield f"*{_inline(' · '.join(call_line(a)))}*"
            if a["error"] is not None:
                yield from ("", "**error**", "", *_fenced(as_text(a["error"]), full))
        case "thinking":
            yield from ("**thinking**", "", *_quoted(a["text"], full))
        case "action" | "result":
            took = f" · {number(a['duration'])} s" if a.get("duration") is not None else ""
            ok = "" if a.get("ok") is None else " · ok" if a["ok"] else " · failed"
            if entry.kind == "action":
                yield f"**do** {_code(a['name'] or '(unknown)')}{ok}{took}"
                if a["arguments"] is not None:
                    yield from ("", *_fenced(as_text(a["arguments"]), full))
                if "sub_agent" in a:
                    yield from ("", f"*sub-agent: {_inline(a['sub_agent'])}*")
            else:
                yield f"**done**{ok}{took}"
            for name in ("error", "result"):
                if a.get(name) is not None:
                    yield from ("", f"{name}:", "", *_fenced(as_text(a[name]), full))
        case "reward":
            value = number(a["value"]) if isinstance(a["value"], float | None) else _inline(str(a["value"]))
            why = f": {_inline(as_text(a['rationale']))}" if a["rationale"] else ""
            yield f"**reward {_inline(a['name'])} {value}** ({_inline(a['source'])}){why}"
        case "edit":
            why = f" ({_inline(a['reason'])})" if a["reason"] else ""
            yield from (f"**edit**{why}", "", *_fenced(as_text(a["runs"]), full))
        case "label":
            score = f" {number(a['score'])}" if isinstance(a["score"], float) else ""
            stale = " (stale)" if a["stale"] else ""
            yield f"**label {_inline(a['technique'])}** {_inline(as_text(a['value']))}{score}{stale}".rstrip()
        case "compaction" | "note" if full or entry.kind == "compaction":
            said = a["text"] if entry.kind == "compaction" and not full else as_text(a["data"])
            yield from (f"**{entry.kind} {_inline(a['name'] or '')}**", "", *_fenced(said, full))


def _inline(text: str) -> str:
    """Text within a line, in which no character means anything to Markdown."""
    return _SPECIAL.sub(r"\\\1", shown.fold(line(text), characters=200).text)


def _code(text: str) -> str:
    one = line(text)
    ticks = "`" * (1 + max((len(found) for found in _TICKS.findall(one)), default=0))
    return f"{ticks} {one} {ticks}" if "`" in one else f"{ticks}{one}{ticks}"


def _folded(text: str, full: bool) -> tuple[str, str | None]:
    whole = safe(text).strip("\n")
    folded = shown.Folded(whole) if full else shown.fold(whole)
    return folded.text, f"… {hidden(folded)}" if folded.characters else None


def _fenced(text: str, full: bool) -> Iterator[str]:
    kept, more = _folded(text, full)
    fence = "`" * max(3, 1 + max((len(found) for found in _TICKS.findall(kept)), default=0))
    yield fence
    yield from kept.split("\n")
    yield fence
    if more:
        yield from ("", f"*{more}*")


def _quoted(text: str, full: bool) -> Iterator[str]:
    """A quotation: its Markdown stays, but that no tag and no picture of it is obeyed outside of code."""
    kept, more = _folded(text, full)
    fenced = False
    for one in kept.split("\n"):
        if one.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        yield "> " + (one if fenced else one.replace("<", "&lt;").replace("![", r"!\["))
    if more:
        yield from ("", f"*{more}*")
