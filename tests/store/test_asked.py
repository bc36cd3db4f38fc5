"""What a store that is served answers to others: questions as they come, of which none is trusted."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph.codec import SCHEMA_VERSION
from odograph.store.asked import Asked, answered, frames
from odograph.store.filters import Filters
from odograph.store.remote import Line
from odograph.store.served import Served


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        *(("count", given, "count is asked with a list of 1 values") for given in (None, {}, [], [{}, 1])),
        ("count", [{"time_range": [2**63, None]}], "a time has at most 64 bits"),
        ("count", [{"time_range": [None, -(2**63) - 1]}], "a time has at most 64 bits"),
        ("count", [{"limit": -1}], "a limit is a whole number from 0, not -1"),
        ("count", [5], "a question that can't be read: "),
        ("search", ["x", 2**70], "a number has at most 64 bits"),
        *((name, [{"time_range": [2**80, None]}, None], "a time has at most 64 bits") for name in ("summaries", "figures")),
        *(
            (name, given, "a question that can't be read: ")
            for name in ("summaries", "figures", "read")
            for given in (None, [], [1, 2], [[], False, 1], "ab", {"a": 1, "b": 2})
        ),
    ],
)
def test_what_is_no_question_is_told(store: odograph.Store, name: str, given: Any, said: str) -> None:
    """One sentence for whoever asked, of any question, and nothing else happens."""
    store.record(task="t").finish()
    ask = answered if name in ("count", "search") else lambda *asked: list(frames(*asked))
    with pytest.raises(odograph.InvalidInput, match=said):
        ask(store.backend.reader, name, given)


def test_filters_of_the_server_hold_where_a_question_has_none(store: odograph.Store) -> None:
    """Each filter that is asked for takes the place of the server's own, and leaves the others."""
    for agent in ("a", "b", "b"):
        store.record(task="t", agent=agent, tags=["x"]).finish()
    base = Filters.of({"agent": "b", "tag": "x"})

    def count(**asked: Any) -> Any:
        return json.loads(answered(store.backend.reader, "count", [asked], base))

    assert [count(), count(agent="a"), count(agent="a", tag=["y"]), count(limit=1)] == [2, 1, 0, 1]
    assert [count(time_range=times) for times in ([-(2**63), 2**63 - 1], [None, None], [2**63 - 1, None])] == [2, 2, 0]
    for newest in (True, False):
        (page,) = frames(store.backend.reader, "summaries", [{"limit": 2}, newest], base)
        assert [s["agent"] for s in json.loads(page)] == ["b", "b"]
    (page,) = frames(store.backend.reader, "figures", [{}, "agent"], base)
    assert json.loads(page)["key"] == ["b", "b"]


def test_frames_are_those_that_other_versions_read(store: odograph.Store) -> None:
    """Servers and clients of several versions speak to each other: what is in a frame stays where it is."""
    run = store.record(task="t")
    (writer,) = store.backend.reader.alive()
    head, *parts = (msgspec.msgpack.decode(frame) for frame in frames(store.backend.reader, "read", [[run.id[-9:]], True]))
    assert head == [0, run.id, [writer]]
    assert [part[:3] for part in parts] == [[1, writer, SCHEMA_VERSION]]
    assert json.loads(parts[0][3])["task"] == "t"
    assert list(frames(store.backend.reader, "read", [["nothing"], False]))[1:] == []


class _Server(BaseHTTPRequestHandler):
    """Answers with one trajectory, whose lines are of a version."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        parts = [msgspec.msgpack.encode(one) for one in self.server.frames]  # type: ignore[attr-defined]
        body = b"".join(len(one).to_bytes(4) + one for one in [*parts, b""])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ([], odograph.NotFound, "trajectory 'x' has no readable record"),
        ([[1, "w", SCHEMA_VERSION, b"junk"]], odograph.NotFound, "trajectory 'x' has no readable record"),
        ([["odd"]], odograph.StoreError, "the answer of http.* can't be read: "),
        (
            [[1, "w", SCHEMA_VERSION + 1, b"{}"]],
            odograph.StoreError,
            "the store at http.* has schema version .*: install a newer one",
        ),
    ],
)
def test_what_can_not_be_read_of_a_served_store_is_told(
    parts: list[Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    """A trajectory whose lines are all damaged there, and lines of a later version of Odograph."""
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        server.frames = [[0, "x", []], *parts]  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        line = Line(Served(f"http://127.0.0.1:{server.server_port}", "t" * 20))
        with pytest.raises(error, match=said):
            Asked(line, lambda: None, tmp_path).trajectory("x")
        line.close()
        server.shutdown()
