"""`odograph show`: one trajectory, as a session to read in a terminal or as Markdown, or as JSON."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from .. import shown
from ..codec import encode
from ..dialects.content import as_text, marked
from ..errors import InvalidInput
from ..trajectory import Trajectory
from . import markdown
from .common import add_json, existing_store, goes_with
from .phrases import brief, call_line, figures, gone, hidden
from .terminal import cells, line, number, paged, paint, safe, seconds, width

HELP = "show one trajectory"
_ROLES = {"system": "magenta", "developer": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id, or a unique prefix or suffix of the id")
    parser.add_argument("--full", action="store_true", help="show long texts whole, and notes")
    parser.add_argument("--step", type=int, metavar="N", help="show only this step, with the sub-agents that it started")
    parser.add_argument("--agent", metavar="NAME", help="show only what this agent did")
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument(
        "--compact",
        action="store_true",
        help="with --json: print each message once, as `show` does (default: every request whole, lossless)",
    )


def run(args: argparse.Namespace) -> int:
    goes_with(args, "--json", "--compact")
    chosen = [flag for flag in ("step", "agent") if getattr(args, flag) is not None]
    if args.json and chosen and not args.compact:
        raise InvalidInput(f"--json prints the whole trajectory; --{chosen[0]} goes with --json --compact")
    with existing_store(args) as store:
        trajectory = store.trajectory(args.id)
        if args.json:
            write_json(trajectory, compact=args.compact, step=args.step, agent=args.agent)
        elif args.markdown:
            for text in markdown.session(trajectory, full=args.full, step=args.step, agent=args.agent):
                print(text)
        else:
            lines = session(trajectory, full=args.full, step=args.step, agent=args.agent)
            first = next(lines)  # a wrong step or agent is told before a pager starts
            with paged():
                print(first)
                for text in lines:
                    print(text)
    return 0


def write_json(t: Trajectory, *, compact: bool = False, step: int | None = None, agent: str | None = None) -> None:
    """The trajectory as one JSON object, written piece by piece: whole, a long history is in it many times."""
    out = sys.stdout.buffer
    found = shown.compact(t, step=step, agent=agent) if compact else t.to_dict().items()
    for number_, (key, value) in enumerate(found):
        out.write((b"," if number_ else b"{") + encode(key) + b":")
        if isinstance(value, (list, Iterator)):
            out.write(b"[")
            for index, item in enumerate(value):
                out.write((b"," if index else b"") + encode(item))
            out.write(b"]")
        else:
            out.write(encode(value))
    out.write(b"}\n")


def session(t: Trajectory, *, full: bool = False, step: int | None = None, agent: str | None = None) -> Iterator[str]:
    """The lines of a session: header, then each step with what was observed, read, asked, answered, done and earned."""
    entries = shown.session(t, step=step, agent=agent)
    about = shown.facts(t)
    first = next(entries, None)
    yield paint(line(t.id), "bold")
    yield " · ".join(f"{name} {line(value)}" for name, value in _header(about) if value)
    if t.task is not None:
        # the prompts say it again: here are its first lines
        yield from _block("task", t.task, "green", full, lines=3)
    within = False
    for entry in brief([] if first is None else [first], entries):
        margin = "  │ " * entry.depth
        if entry.kind == "step":
            lines = _rule(_step(entry, t.agent))
        elif entry.kind == "outcome":
            lines = _rule(str(entry.about["status"]))
        elif within and entry.step is None and entry.kind not in ("note", "compaction"):
            lines = iter([""])
        else:
            lines = iter(())
        within = entry.step is not None or (within and entry.kind == "note")
        for text in lines:
            yield f"{margin}{text}".rstrip() if margin else text
        for text in _entry(entry.kind, entry.about, full, 4 * entry.depth):
            yield margin + text


def _header(about: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    tokens = about["prompt_tokens"], about["completion_tokens"]
    yield "agent", about["agent"]
    yield "model", about["model"]
    yield "status", about["status"]
    yield "reward", None if about["reward"] is None else number(about["reward"])
    yield "steps", str(about["steps"])
    yield "calls", str(about["llm_calls"])
    yield "actions", str(about["actions"])
    yield "tokens", None if tokens == (None, None) else f"{number(tokens[0] or 0)} in, {number(tokens[1] or 0)} out"
    yield "cost", None if about["cost"] is None else f"${number(about['cost'])}"
    yield "started", about["started"]
    yield "took", None if about["duration"] is None else seconds(about["duration"])
    yield "group", about["group"]
    yield "tags", ", ".join(about["tags"]) or None
    yield "sub-agent of" if about["sub_agent_of"] else "fork of", about["sub_agent_of"] or about["fork_of"]


def _step(entry: shown.Entry, agent: str | None) -> str:
    """A step's title: who, when, how long, what it cost and what it earned."""
    a = entry.about
    title = [f"step {entry.step}"]
    if entry.agent and (entry.agent != agent or entry.depth):
        title.append(line(entry.agent))
    return " · ".join([*title, *(f"{name} {text}".strip() for name, text in figures(a))])


def _rule(text: str) -> Iterator[str]:
    yield ""
    yield paint(f"── {text} ".ljust(min(width(), 100), "─"), "bold")


def _entry(kind: str, a: dict[str, Any], full: bool, margin: int) -> Iterator[str]:
    match kind:
        case "observation":
            yield from _block("observed", a["value"], "green", full, margin)
        case "context":
            why = f" ({line(a['purpose'])})" if a["purpose"] else ""
            asked = f" {line(as_text(a['query']))[:200]}" if a["query"] is not None else ""
            data = a["error"] if a["error"] is not None else a["data"]
            yield from _block(f"read {line(a['provider'])}{asked}{why}", data, "blue", full, margin)
        case "tools" if full:
            yield from _block("tools", a["tools"], "dim", full, margin)
        case "history":
            yield paint(f"· {gone(a)}", "dim")
        case "message":
            role = line(a["role"])
            yield from _said(role, marked(a["content"])[0], a["tool_calls"], _ROLES.get(role, "dim"), full, margin)
        case "call":
            yield paint(f"· {' · '.join(line(text) for text in call_line(a))}", "dim")
            if a["error"] is not None:
                yield from _block("error", a["error"], "red", full, margin)
        case "thinking":
            yield from _block("thinking", a["text"], "dim", full, margin)
        case "answer":
            name = "assistant" if a["of"] == 1 else f"assistant, choice {a['choice']}"
            yield from _said(name, a["text"] + marked(a["media"])[0], a["tool_calls"], "cyan", full, margin)
        case "action":
            name = paint(f"do {line(a['name'] or '(unknown)')}", "yellow")
            yield f"{name}({_brief(a['arguments'], full)}) {_ended(a)}".rstrip()
            if "sub_agent" in a:
                yield paint(f"· sub-agent: {line(a['sub_agent'])}", "dim")
            yield from _came(a, full, margin)
        case "result":
            if ended := _ended(a):
                yield f"done {ended}"
            yield from _came(a, full, margin)
        case "reward":
            value = number(a["value"]) if isinstance(a["value"], float | None) else line(str(a["value"]))
            where = " on a record" if a["target"] else ""
            why = f": {line(a['rationale'])[:300]}" if a["rationale"] else ""
            yield paint(f"reward {line(a['name'])} {value}", "yellow") + f"{where} ({line(a['source'])}){why}"
        case "edit":
            runs = " + ".join(
                f"kept {r['kept'][0]}..{r['kept'][1]}" if "kept" in r else repr(r["text"] if r["text"] is not None else r["ids"])
                for r in a["runs"]
            )
            why = f" ({line(a['reason'])})" if a["reason"] else ""
            state = f" REJECTED: {line(a['rejected'])}" if a["rejected"] else ""
            yield paint("edit", "magenta") + f" {line(runs)[:400]}{why}{state}"
        case "label":
            said = "" if a["value"] is None else f" {line(as_text(a['value']))[:200]}"
            score = "" if a["score"] is None else f" {number(a['score']) if isinstance(a['score'], float) else 'nan'}"
            stale = " (stale)" if a["stale"] else ""
            yield paint(f"label {line(a['technique'])}", "magenta") + said + score + stale
        case "compaction":
            name = f"compaction ({line(a['name'] or '')})"
            data = a["data"] if full else shown.fold(a["text"], lines=4, characters=300).text
            yield from _block(name, data, "magenta", full, margin) if data else [paint(name, "magenta")]
        case "note" if full:
            yield from _block(f"note {line(a['name'] or '')}", a["data"], "dim", full, margin)
        case "outcome":
            if a["answer"] is not None:
                yield from _block("answer", a["answer"], "cyan", full, margin)
            if a["error"] is not None:
                yield from _block("error", a["error"], "red", full, margin)


def _ended(a: dict[str, Any]) -> str:
    """How an action ended, and how long it took; nothing of one whose outcome is told later."""
    mark = "" if a.get("ok") is None else paint("ok", "green") if a["ok"] else paint("failed", "red")
    took = seconds(a["duration"]) if a.get("duration") is not None else ""
    return f"{mark} {took}".strip()


def _came(a: dict[str, Any], full: bool, margin: int) -> Iterator[str]:
    if a.get("error") is not None:
        yield from _block("error", a["error"], "red", full, margin)
    if a.get("result") is not None:
        yield from _block("result", a["result"], "yellow", full, margin)


def _said(name: str, text: str, tool_calls: list[dict[str, Any]], colour: str, full: bool, margin: int) -> Iterator[str]:
    for one in tool_calls:
        if not one["done"]:  # else its action shows it, with its result
            text += f"\n→ {one['name']}({as_text(one['arguments'])})"
    if text.strip():
        yield from _block(name, text.strip("\n"), colour, full, margin)


def _brief(value: Any, full: bool) -> str:
    text = line(as_text(value))
    return text if full or len(text) <= 200 else text[:200] + "…"


def _block(name: str, value: Any, colour: str, full: bool, margin: int = 0, lines: int = 12) -> Iterator[str]:
    """A named text, wrapped and indented; folded where it is long, at most to so many lines."""
    text = safe(as_text(value)).strip("\n")
    folded = shown.Folded(text) if full else shown.fold(text, lines=lines, characters=60 * lines - 20)
    more = paint(f"… {hidden(folded)} (--full shows all)", "dim") if folded.characters else ""
    head = paint(name, colour)
    parts = folded.text.split("\n")
    room = max(20, width() - margin)
    if len(parts) == 1 and not more and cells(name) + cells(text) + 2 <= room:
        yield f"{head}: {text}"
        return
    yield f"{head}:"
    for one in parts:
        wrapped = textwrap.wrap(one, room - 4, replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False)
        for piece in wrapped or [""]:
            yield f"    {piece}"
    if more:
        yield f"    {more}"
