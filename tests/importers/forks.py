"""Sessions that grow beside their forks, line by line in turn, and databases row by row: a folder in each of its states."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from . import agents
from .agents import MS, T, said

HEAD = {"type": "session", "version": 3, "id": "p1", "timestamp": T.format(0), "cwd": "/"}


def pi_entry(n: int, role: str, words: str, second: int, parent: int | None = None) -> dict[str, Any]:
    message = {"role": role, "content": [said(words)], **({"usage": {"input": 5, "output": 2}} if role == "assistant" else {})}
    above = f"e{parent or n - 1}" if n > 1 else None
    return {"type": "message", "id": f"e{n}", "parentId": above, "timestamp": T.format(second), "message": message}


PI_TALK = [HEAD, pi_entry(1, "user", "Knot it", 1), pi_entry(2, "assistant", "Knotted", 2)]
PI_MORE = [pi_entry(3, "user", "More", 20), pi_entry(4, "assistant", "Tied", 21)]


def in_turn(folder: Path, files: dict[str, list[Any]], order: list[tuple[str, int]], size: int) -> Path:
    """Files of lines, of which so many steps of the order are there: a file, and how many lines the step writes."""
    folder.mkdir(exist_ok=True)
    there: dict[str, int] = {}
    for name, lines in order[: max(1, size)]:
        there[name] = there.get(name, 0) + lines
    for name, lines in there.items():
        (folder / name).write_text("".join(json.dumps(v) + "\n" for v in files[name][:lines]))
    return folder


def pi(folder: Path, size: int) -> Path:
    """A fork copies what was there, with its own header, and both go on."""
    name = "2026-03-01T10-00-00-000Z_p1.jsonl"
    head = {**HEAD, "id": "p2", "timestamp": T.format(9), "parentSession": f"/elsewhere/{name}"}
    own = [pi_entry(5, "user", "Now a bow", 10, 2), pi_entry(6, "assistant", "Bowed", 11)]
    files = {name: [*PI_TALK, *PI_MORE], "fork.jsonl": [head, *PI_TALK[1:], *own]}
    order = [(name, 2), (name, 1), ("fork.jsonl", 3), ("fork.jsonl", 1), (name, 1), ("fork.jsonl", 1), (name, 1)]
    return in_turn(folder / "p", files, order, size)


def qwen(folder: Path, size: int) -> Path:
    """`--fork-session` copies the lines under another session, and says so."""

    def line(n: int, kind: str, words: str, session: str, parent: int | None = None) -> dict[str, Any]:
        message = {"role": "model" if kind == "assistant" else "user", "parts": [{"text": words}]}
        about = {"uuid": f"q{n}", "parentUuid": f"q{parent or n - 1}" if n > 1 else None, "sessionId": session}
        return {**about, "timestamp": T.format(n), "type": kind, "cwd": "/", "message": message}

    ours = [line(1, "user", "Knot it", "a"), line(2, "assistant", "Knotted", "a")]
    copied = [{**v, "sessionId": "b", "forkedFrom": {"sessionId": "a", "messageUuid": v["uuid"]}} for v in ours]
    files = {
        "a.jsonl": [*ours, line(20, "user", "More", "a", 2), line(21, "assistant", "Tied", "a")],
        "b.jsonl": [*copied, line(10, "user", "Now a bow", "b", 2), line(11, "assistant", "Bowed", "b")],
    }
    order = [("a.jsonl", 1), ("a.jsonl", 1), ("b.jsonl", 3), ("a.jsonl", 1), ("b.jsonl", 1), ("a.jsonl", 1)]
    return in_turn(folder / "q", files, order, size)


def droid(folder: Path, size: int) -> Path:
    """A fork names its parent and the message up to which it copied."""
    head = {**agents.DROID[0], "id": "dr2", "parent": "dr", "forkedAtMessageId": "4"}
    own = [
        {"type": "message", "id": "8", "timestamp": T.format(8), "parentId": "4", "message": {"role": "user", "content": [said("And a bow")]}},
        {"type": "message", "id": "9", "timestamp": T.format(9), "parentId": "8", "message": {"role": "assistant", "content": [said("Bowed")]}},
    ]  # fmt: skip
    files = {"dr.jsonl": agents.DROID, "dr2.jsonl": [head, *agents.DROID[1:], *own]}
    order = [("dr.jsonl", 3), ("dr.jsonl", 3), ("dr2.jsonl", 7), ("dr2.jsonl", 1)]
    return in_turn(folder / "d", files, order, size)


def kimi_code(folder: Path, size: int) -> Path:
    """A session, and its fork, which copies the wire up to a prompt; that of the fork comes last."""
    (folder / "k").mkdir(exist_ok=True)
    agents.kimi_code(folder / "k", size if size < 30 else 99)
    if size >= 30:
        made = folder / "k" / "session_f0f0"
        if not made.exists():
            agents.kimi_code_fork(folder / "k")
    return folder / "k"


def open_claw(path: Path, size: int) -> None:
    """OpenClaw's database after so many events."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table session_windows (session_id text primary key, reason text)")
        database.execute(
            "create table transcript_events (session_id text, seq integer, event_json text, created_at integer, event_zstd blob, event_utf8_bytes integer)"
        )
        for n, value in enumerate(
            [*PI_TALK, *PI_MORE, pi_entry(5, "user", "A bow", 30, 2), pi_entry(6, "assistant", "Bowed", 31)][:size]
        ):
            database.execute("insert into transcript_events values ('p1', ?, ?, 0, null, null)", (n, json.dumps(value)))
        database.commit()


def opencode(path: Path, size: int) -> None:
    """OpenCode's database, with a fork, whose rows come one after the other, while the parent goes on."""
    agents.opencode(path)
    begun = MS + 10_000
    with closing(sqlite3.connect(path)) as database:
        database.execute("delete from session where id = 's2'")
        database.execute("delete from message where session_id = 's2'")
        rows = database.execute("select id, time_created, data from message order by time_created limit 2").fetchall()
        parts = database.execute("select id, message_id, data from part where message_id in ('m1', 'm2')").fetchall()

        def told(session: str, id: str, at: int, role: str, words: str) -> Callable[[], None]:
            def add() -> None:
                about = {"role": role, "modelID": "m", "finish": "stop", "time": {"created": at}}
                database.execute("insert into message values (?, ?, ?, ?)", (id, session, at, json.dumps(about)))
                database.execute("insert into part values (?, ?, ?, ?)", (f"p{id}", id, session, json.dumps(said(words))))

            return add

        def copy() -> None:
            database.execute("insert into session values ('f1', 'p', null, 'x', '/w', 't', '1.2', ?, ?)", (begun, begun))
            for id, at, data in rows:
                database.execute("insert into message values (?, 'f1', ?, ?)", (f"{id}-1", at, data))
            for id, of, data in parts:
                database.execute("insert into part values (?, ?, 'f1', ?)", (f"{id}-1", f"{of}-1", data))

        steps = [
            lambda: None, copy, told("f1", "u1", begun + 1, "user", "Fork"), told("s1", "u0", begun + 2, "user", "On"),
            told("f1", "a1", begun + 3, "assistant", "Forked"), told("s1", "a0", begun + 4, "assistant", "Gone on"),
        ]  # fmt: skip
        for step in steps[: max(1, size)]:
            step()
        database.commit()


def goose(path: Path, size: int) -> None:
    """Goose's database with a copy of a session, which has the ids of its messages; both go on."""
    words = (("user", "Knot it"), ("assistant", "Knotted"), ("user", "More"), ("assistant", "Tied"))
    talk = [agents.goose_message(f"m{n}", role, n, said(w)) for n, (role, w) in enumerate(words)]
    own = [agents.goose_message("x1", "user", 20, said("Now a bow")), agents.goose_message("x2", "assistant", 21, said("Bowed"))]
    agents.goose(path, talk[: 2 if size < 4 else size - 1])
    copy = [] if size < 2 else [*talk[:2], *own[: size - 2]]
    with closing(sqlite3.connect(path)) as database:
        if copy:
            database.execute("insert into sessions values ('h1', 'd', '/w', '2026-03-01 10:01:00', 7, 3)")
        for m in copy:
            database.execute(
                "insert into messages (session_id, role, content_json, created_timestamp, message_id, metadata_json) values ('h1', ?, ?, ?, ?, ?)",
                (m["role"], json.dumps(m["content"]), m["created"], m["id"], json.dumps(m["metadata"])),
            )
        database.commit()
