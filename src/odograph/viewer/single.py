"""Pages as one HTML file: the same page, with the answers inside, compressed. Opened from disk, the file reaches no server and no
network: its policy allows its own script and style, by their hashes, and nothing else."""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from ..codec import encode_finite, record_to_dict
from ..errors import InvalidInput, NotFound
from ..training.plan import POLICIES
from ..trajectory import Trajectory
from . import page
from .answers import Answers

#: Attempts of a group of which every two are compared in a file; of more, the worst with the best.
_PAIRS = 6
Answer = tuple[str, Any]


def write(out: Path, answers: Answers, ids: list[str], home: str, *, group: str | None = None) -> int:
    """Writes a file that holds trajectories, and what `home` (the page that opens) needs; returns its size. Raises StoreError."""
    script, style = page.script(), page.asset("style.css").decode()
    policy = (
        f"default-src 'none'; script-src {page.hash_of(script)}; style-src {page.hash_of(style)}; img-src data:; media-src data:;"
        " form-action 'none'; base-uri 'none'"
    )
    head, body = page.asset("index.html").decode().split("<noscript>")
    head = head.replace('<link rel="stylesheet" href="style.css">\n', f"<style>{style}</style>\n")
    head = head.replace(
        '<meta charset="utf-8">\n', f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    )
    end = body.replace('<script type="module" src="app.js"></script>', f'<script type="module">{script}</script>')
    if out.is_dir() or not out.parent.is_dir():
        raise NotFound(f"no folder {str(out.parent)!r}" if not out.is_dir() else f"{str(out)!r} is a folder; a file was expected")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(head)
            for name, value in _held(answers, ids, home, group):
                data = value if isinstance(value, bytes) else encode_finite(value)
                packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
                file.write(f'<script type="text/plain" data-name="{escape(name)}">{packed}</script>\n')
            file.write("<noscript>" + end)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return out.stat().st_size


def _held(answers: Answers, ids: list[str], home: str, group: str | None) -> Iterator[Answer]:
    """Each answer by its name, as a server would give it."""
    yield "info", answers.info() | {"home": home, "trajectories": len(ids), "right": "label"}
    rows = []
    for id in ids:
        rows.append(answers.about(id))
        yield from _of_one(answers, id)
    yield "list", {"rows": rows}
    if group is not None:
        found = answers.group(group)
        yield f"group?name={_quoted(group)}", found
        attempts = sorted(found["attempts"], key=lambda a: (a["reward"] is not None, a["reward"]))
        ends = [attempts[0]["id"], attempts[-1]["id"]]
        pairs = ids if len(ids) <= _PAIRS else ends
    else:
        pairs = ids if len(ids) == 2 else []
    for a in pairs:
        for b in pairs:
            if a != b:
                yield f"diff?a={a}&b={b}", answers.difference(a, b)


def _of_one(answers: Answers, id: str) -> Iterator[Answer]:
    head = answers.head(id)
    yield f"t/{id}", head
    t = answers.trajectory(id)
    firsts = head["firsts"]
    parts = [answers.part(id, n) for n in range(len(firsts))]
    for n, part in enumerate(parts):
        yield f"t/{id}/part/{n}", part
    for n in head["cut"]:
        yield f"t/{id}/whole/{n}", answers.whole(id, n)
    for n, records in enumerate(_records(t, parts)):
        yield f"t/{id}/records/{n}", records
    yield f"t/{id}/tokens", answers.tokens(id)
    if any(chain["calls"] for chain in answers.tokens(id)["chains"]):
        for edits in POLICIES:
            with suppress(InvalidInput):  # reweight wants a scorer
                yield f"t/{id}/rows?edits={edits}&advantage=", answers.rows(id, {"edits": [edits]})
    else:
        yield f"t/{id}/rows?edits=env&advantage=", answers.rows(id, {})


def _records(t: Trajectory, parts: list[bytes]) -> Iterator[dict[str, Any]]:
    """The records of each part, by their ids. Calls are as they are stored, with references to messages: whole calls would hold
    the history again and again."""

    by_id = {r.id: r for r in t.records}
    for part in parts:
        ids = dict.fromkeys(entry["record"] for entry in msgspec.json.decode(part))
        yield {id: record_to_dict(by_id[id]) for id in ids if id in by_id}


def _quoted(name: str) -> str:
    """A name as JavaScript's encodeURIComponent writes it."""
    return quote(name, safe="!'()*-._~")
