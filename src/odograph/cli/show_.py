"""`odograph show`: one trajectory, as a session to read, or whole as JSON."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from .. import shown
from ..codec import encode
from ..dialects.content import text_of
from ..trajectory import Trajectory
from .common import add_json, existing_store
from .terminal import cells, line, number, paint, safe, seconds, width

HELP = "show one trajectory"
_SHORT = 700
_ROLES = {"system": "magenta", "developer": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id, or a unique prefix or suffix of the id")
    parser.add_argument("--full", action="store_true", help="show long texts whole, and notes")
    parser.add_argument("--step", type=int, metavar="N", help="show only this step")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        trajectory = store.trajectory(args.id)
        if args.json:
            write_json(trajectory)
            return 0
        for text in session(trajectory, full=args.full, only=args.step):
            print(text)
    return 0


def write_json(trajectory: Trajectory) -> None:
    """The whole trajectory as one JSON object, written piece by piece: a long history is in it many times."""
    out = sys.stdout.buffer
    out.write(b"{")
    for number_, (key, value) in enumerate(trajectory.to_dict().items()):
        out.write((b"," if number_ else b"") + encode(key) + b":")
        if isinstance(value, list):
            out.write(b"[")
            for index, item in enumerate(value):
                out.write((b"," if index else b"") + encode(item))
            out.write(b"]")
        else:
            out.write(encode(value))
    out.write(b"}\n")


def session(t: Trajectory, *, full: bool = False, only: int | None = None) -> Iterator[str]:
    """The lines of a session: header, then each step with what was observed, read, asked, answered, done and earned."""
    about = shown.facts(t)
    yield paint(line(t.id), "bold")
    yield " · ".join(f"{name} {line(value)}" for name, value in _header(about) if value)
    if t.task is not None:
        yield from _block("task", t.task, "green", full)
    within = False
    for entry in shown.session(t):
        if only is not None and entry.step != only:
            continue
        if entry.kind == "step":
            who = f" · {line(entry.agent)}" if entry.agent and entry.agent != t.agent else ""
            earned = f" · reward {number(entry.about['reward'])}" if entry.about["reward"] is not None else ""
            yield from _rule(f"step {entry.step}{who}{earned}")
        elif entry.kind == "outcome":
            yield from _rule(str(entry.about["status"]))
        elif within and entry.step is None and entry.kind != "note":
            yield ""
        within = entry.step is not None or (within and entry.kind == "note")
        yield from _entry(entry.kind, entry.about, full)


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
    yield "started", about["started"]
    yield "took", None if about["duration"] is None else seconds(about["duration"])
    yield "group", about["group"]
    yield "tags", ", ".join(about["tags"]) or None
    yield "fork of", about["fork_of"]


def _rule(text: str) -> Iterator[str]:
    yield ""
    yield paint(f"── {text} ".ljust(min(width(), 100), "─"), "bold")


def _entry(kind: str, a: dict[str, Any], full: bool) -> Iterator[str]:
    match kind:
        case "observation" if full or not a["of_tools"]:  # results of tools are shown as the messages they are
            yield from _block("observed", a["value"], "green", full)
        case "context":
            why = f" ({line(a['purpose'])})" if a["purpose"] else ""
            asked = f" {line(_text(a['query']))[:200]}" if a["query"] is not None else ""
            data = a["error"] if a["error"] is not None else a["data"]
            yield from _block(f"read {line(a['provider'])}{asked}{why}", data, "blue", full)
        case "message" if full or a["role"] != "assistant":  # what it said before is shown where it said it
            content = a["content"]
            text = text_of(content) or ("" if content in (None, "", []) else _text(content))
            yield from _said(line(a["role"]), text, a["tool_calls"], _ROLES.get(a["role"], "dim"), full)
        case "call":
            yield from _call(a, full)
        case "thinking":
            yield from _block("thinking", a["text"], "dim", full)
        case "answer":
            name = "assistant" if a["of"] == 1 else f"assistant, choice {a['choice']}"
            yield from _said(name, a["text"], a["tool_calls"], "cyan", full)
        case "action":
            mark = {True: paint("ok", "green"), False: paint("failed", "red"), None: ""}[a["ok"]]
            took = f" {seconds(a['duration'])}" if a["duration"] is not None else ""
            name = paint(f"do {line(a['name'] or '(unknown)')}", "yellow")
            yield f"{name}({_brief(a['arguments'], full)}) {mark}{took}".rstrip()
            if a["error"] is not None:
                yield from _block("error", a["error"], "red", full)
            if a["result"] is not None:
                yield from _block("result", a["result"], "yellow", full)
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
            said = "" if a["value"] is None else f" {line(_text(a['value']))[:200]}"
            score = "" if a["score"] is None else f" {number(a['score']) if isinstance(a['score'], float) else 'nan'}"
            stale = " (stale)" if a["stale"] else ""
            yield paint(f"label {line(a['technique'])}", "magenta") + said + score + stale
        case "note" if full:
            yield from _block(f"note {line(a['name'] or '')}", a["data"], "dim", full)
        case "outcome":
            if a["answer"] is not None:
                yield from _block("answer", a["answer"], "cyan", full)
            if a["error"] is not None:
                yield from _block("error", a["error"], "red", full)


def _call(a: dict[str, Any], full: bool) -> Iterator[str]:
    about = [line(a["model"] or "model")]
    if a["purpose"] != "act":
        about.append(f"for {line(a['purpose'])}")
    if a["prompt_tokens"] is not None or a["completion_tokens"] is not None:
        about.append(f"{number(a['prompt_tokens'])} → {number(a['completion_tokens'])} tokens")
    if a["duration"] is not None:
        about.append(seconds(a["duration"]))
    yield paint(f"· {' · '.join(about)}", "dim")
    if a["error"] is not None:
        yield from _block("error", a["error"], "red", full)


def _said(name: str, text: str, tool_calls: list[dict[str, Any]], colour: str, full: bool) -> Iterator[str]:
    for one in tool_calls:
        text += f"\n→ {one['name']}({_text(one['arguments'])})"
    if text.strip():
        yield from _block(name, text.strip("\n"), colour, full)


def _brief(value: Any, full: bool) -> str:
    if value is None:
        return ""
    text = line(_text(value))
    return text if full or len(text) <= 200 else text[:200] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _block(name: str, value: Any, colour: str, full: bool) -> Iterator[str]:
    """A named text, wrapped and indented; shortened where it is long."""
    parts = isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value)
    text = safe(text_of(value) if parts and value else _text(value)).strip("\n")
    more = ""
    if not full and len(text) > _SHORT:
        more = paint(f"… ({len(text):,} characters; --full shows all)", "dim")
        text = text[:_SHORT]
    head = paint(name, colour) if colour != "dim" else paint(name, "dim")
    lines = text.split("\n")
    if len(lines) == 1 and not more and cells(name) + cells(text) + 2 <= width():
        yield f"{head}: {text}"
        return
    yield f"{head}:"
    for one in lines:
        wrapped = textwrap.wrap(
            one, max(20, width() - 4), replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False
        )
        for part in wrapped or [""]:
            yield f"    {part}"
    if more:
        yield f"    {more}"
