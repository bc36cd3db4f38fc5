"""Session files as crashes, editors, packers and services leave them: what is whole in them is imported as ever."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

import odograph
from odograph import importers
from odograph.types import Note

from . import agents
from .scaffold import of, one
from .test_content import SMALL
from .test_growing import (
    CHAT,
    CLAUDE,
    CODEX,
    EXEC,
    FILES,
    GEMINI,
    HANDS,
    QWEN,
    STREAM,
    cc,
    codex,
    content,
    counts,
    gemini,
    jsonl,
    write,
)

TEXTS = {name: (file, text) for name, file, text in SMALL if name in ("cline", "gemini-cli", "openai-chat", "inspect", "atif", "droid", "tau-bench")}  # fmt: skip
TEXTS["aider"] = (".aider.chat.history.md", agents.AIDER)


def imported(path: Path) -> dict[str, Any]:
    with odograph.open("memory:") as store:
        report = store.import_sessions(path)
        assert (report.failed, report.warnings) == ([], [])
        return content(store)


@pytest.mark.parametrize("name", TEXTS)
def test_a_byte_order_mark_changes_nothing(tmp_path: Path, name: str) -> None:
    """A file that an editor began with a byte order mark is the same session."""
    file, text = TEXTS[name]
    plain = imported(write(tmp_path / "a" / file, text.encode()))
    assert imported(write(tmp_path / "b" / "a" / file, b"\xef\xbb\xbf" + text.encode())) == plain


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_the_same_session(tmp_path: Path, encoding: str) -> None:
    """A file that PowerShell wrote with `>` is the same session, characters beyond ASCII too."""
    data = jsonl(CLAUDE).decode().replace("Sort", "R\u00f6w \U0001f6a3")
    plain = imported(write(tmp_path / "a" / "a.jsonl", data.encode()))
    assert imported(write(tmp_path / "b" / "a.jsonl", f"\ufeff{data}".encode(encoding))) == plain


@pytest.mark.parametrize(
    "rows", [CLAUDE, CODEX, GEMINI, QWEN, STREAM, EXEC], ids=["claude", "codex", "gemini", "qwen", "stream", "exec"]
)
def test_lines_that_jq_rewrote_are_the_same_session(tmp_path: Path, rows: list[Any]) -> None:
    """The lines of a session as one JSON list (`jq -s .`), or over several lines each (`jq .`), are the same session. Of a list
    that was cut, what is whole is imported, and the rest is warned of."""
    plain = imported(write(tmp_path / "a.jsonl", jsonl(rows)))
    for text in (json.dumps(rows), json.dumps(rows, indent=2), "\n".join(json.dumps(row, indent=2) for row in rows)):
        assert imported(write(tmp_path / "a.jsonl", text.encode())) == plain
    with odograph.open("memory:") as store:
        report = store.import_sessions(write(tmp_path / "a.jsonl", json.dumps(rows)[:-20].encode()))
        assert (report.imported, report.failed, len(report.warnings)) == (1, [], 1)


@pytest.mark.parametrize("rows", [CHAT, HANDS], ids=["chat", "openhands"])
def test_a_torn_last_row_is_warned_of(tmp_path: Path, rows: list[Any]) -> None:
    """The rows before a last row that was cut are imported, and the last session names the damage."""
    with odograph.open("memory:") as store:
        report = store.import_sessions(write(tmp_path / "a.jsonl", jsonl(rows)[:-20]))
        assert (report.imported, len(report.warnings)) == (len(rows) - 1, 1)
        assert any(key.startswith("torn line") for key in report.warnings[0])


@pytest.mark.parametrize("odd", ["null", '{"messages": null}'])
@pytest.mark.parametrize("name", ["openai-chat", "sharegpt", "preferences", "verifiers"])
def test_rows_behind_an_odd_first_row_are_imported(tmp_path: Path, name: str, odd: str) -> None:
    """A file of rows whose first row is empty, or of another shape, is recognised by the rows behind it, and the row is warned of."""
    path = write(tmp_path / "a.jsonl", odd.encode() + b"\n" + jsonl(FILES[name][1]))
    with odograph.open("memory:") as store:
        report = store.import_sessions(path)
        assert {t["format"] for t in report.trajectories} == {name}
        assert report.warnings[0]["rows of another shape before this one"] == 1


@pytest.mark.parametrize("name", [b"tabll", b"tab\xd1e"])
def test_a_database_with_a_damaged_schema_is_refused_with_a_sentence(tmp_path: Path, name: bytes) -> None:
    """A database whose table definitions are damaged is an error with the reason, also where the format is named, and where the
    damage is no text."""
    path = agents.opencode(tmp_path / "opencode.db")
    data = path.read_bytes().replace(b"CREATE TABLE", b"create table").replace(b"create table", b"create " + name)
    path.write_bytes(data if name.isascii() else data.replace(b"part", b"p\xd1rt"))
    with odograph.open("memory:") as store:
        (failed,) = store.import_sessions(path, format="opencode").failed
    assert failed["error"].startswith("the database can't be read: ")


def test_a_row_of_results_without_its_prompt_is_imported(tmp_path: Path) -> None:
    """A first row of verifiers names the format; a later row that lost its prompt keeps its answer and its reward."""
    row = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}], "reward": 0.5}
    late = {name: value for name, value in row.items() if name != "prompt"}
    with odograph.open("memory:") as store:
        assert store.import_sessions(write(tmp_path / "a.jsonl", jsonl([row, late]))).failed == []
        assert [(len(t.llm_calls), t.reward) for t in store.trajectories()] == [(1, 0.5), (1, 0.5)]


def test_nuls_that_a_crash_left_cost_nothing(tmp_path: Path) -> None:
    """NULs at the end of a file, or where it was written on after a crash, take no line with them."""
    data = jsonl(CLAUDE)
    half = data.index(b"\n", len(data) // 2) + 1
    padded = data[:half] + b"\x00" * 512 + data[half:] + b"\x00" * 512
    assert imported(write(tmp_path / "b" / "a.jsonl", padded)) == imported(write(tmp_path / "a.jsonl", data))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_packed_file_is_the_file_in_it(tmp_path: Path, pack: Any) -> None:
    """A session that was packed with gzip or zstd is the same session, in a folder too; a damaged one says so."""
    plain = imported(write(tmp_path / "a.jsonl", jsonl(CLAUDE)))
    packed = write(tmp_path / "packed" / "a.jsonl.x", pack(jsonl(CLAUDE)))
    assert imported(packed) == imported(packed.parent) == plain
    data = pack(jsonl(CLAUDE))
    write(packed, data[:40] + b"\xff" * 40 + data[80:])
    with odograph.open("memory:") as store:
        (failed,) = store.import_sessions(packed).failed
    assert "damaged" in failed["error"]


def test_a_packed_bomb_is_refused_with_its_size(tmp_path: Path) -> None:
    """A small file that unpacks to a large one is refused before it is unpacked."""
    bomb = write(tmp_path / "a.jsonl.gz", gzip.compress(b" " * 20_000_000))
    with odograph.open("memory:") as store:
        (failed,) = store.import_sessions(bomb).failed
    assert "unpacks to more than" in failed["error"]


def test_what_the_program_wrote_in_the_models_place_is_no_call(tmp_path: Path) -> None:
    """An error of the API that stands as an answer is a note, and no prompt holds it."""
    error = cc(2, "assistant", [{"type": "text", "text": "API Error: 529"}], isApiErrorMessage=True)
    values = [cc(1, "user", "Row", None), error, cc(3, "user", "Row on"), cc(4, "assistant", "Rowed")]
    with odograph.open("memory:") as store:
        store.import_sessions(write(tmp_path / "a.jsonl", jsonl(values)))
        (t,) = store.trajectories()
        (answered,) = t.llm_calls
        assert [m["content"] for m in answered.messages] == ["Row", "Row on"]
        assert "API Error: 529" in json.dumps([n.data for n in t.notes])


def test_a_tool_that_the_api_ran_has_its_result(tmp_path: Path) -> None:
    """A search that the API itself ran is an action with what came of it, and asks for no other result."""
    found = [{"type": "web_search_result", "title": "Tides"}]
    blocks = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "tides"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": found},
        {"type": "text", "text": "High at six"},
    ]
    with odograph.open("memory:") as store:
        store.import_sessions(write(tmp_path / "a.jsonl", jsonl([cc(1, "user", "When", None), cc(2, "assistant", blocks)])))
        (t,) = store.trajectories()
        assert [(a.name, a.result) for a in t.actions] == [("web_search", found)]
        assert odograph.validate(t).errors == []


def test_a_file_in_which_nobody_spoke_has_not_begun(tmp_path: Path) -> None:
    """A session of Gemini CLI with the program's own messages alone is passed over in a folder."""
    head = {"sessionId": "g", "projectHash": "h", "startTime": "2026-03-01T10:00:00Z"}
    write(tmp_path / "s.jsonl", jsonl([head, gemini(1, "info", "update available")]))
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path)
        assert (report.failed, report.imported, len(report.unrecognised)) == ([], 0, 1)


def test_a_database_that_is_being_written_is_read(tmp_path: Path) -> None:
    """What stands in the log beside a database counts, and a database that another program holds is read all the same."""
    path = agents.opencode(tmp_path / "opencode.db")
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode=wal")
    part = json.dumps({"type": "text", "text": "in the log"})
    database.execute("insert into part values ('zz', 'm2', 's1', ?)", (part,))
    database.commit()
    database.execute("begin exclusive")
    with odograph.open("memory:") as store:
        assert store.import_sessions(path).failed == []
        assert any(c.text == "in the log" for t in store.trajectories() for c in t.llm_calls)
    database.close()


def test_a_result_of_one_id_replaces_none(tmp_path: Path) -> None:
    """Two outputs under one id, which damaged or merged rollouts have, are both kept."""
    again = codex("response_item", 14, type="function_call_output", call_id="c2", output="another end")
    session = one("codex", write(tmp_path / "b.jsonl", jsonl([*CODEX, again])))
    assert {"call_id": "c2", "output": "fine"} in [n.data for n in of(Note, session)]


def test_a_session_of_which_nothing_is_left_is_warned_of(tmp_path: Path) -> None:
    """A row of a known format whose messages are of another shape is imported as far as it goes, and the import says that nothing
    of it was found."""
    row = {"index": 1, "output": {"index": 1, "status": "completed", "result": "r", "history": "lost"}}
    with odograph.open("memory:") as store:
        report = store.import_sessions(write(tmp_path / "runs.jsonl", jsonl([row])))
        assert report.imported == 1
        assert "no call of a model or a tool was found in the file" in report.warnings[0]


def test_a_qwen_code_session_without_parts_is_qwen_codes(tmp_path: Path) -> None:
    """What shares Claude Code's keys is told from it, although its first messages say nothing."""
    empty = [{**v, "message": {"role": v["message"]["role"]}} for v in QWEN[:2]]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(v) + "\n" for v in [*empty, *QWEN[2:]]))
    found = importers.recognise(path)
    assert found is not None and found.NAME == "qwen-code"


def test_two_messages_of_one_uuid_are_both_kept(tmp_path: Path) -> None:
    """Two messages that differ under one uuid are both in the session, and the import warns of the second. A line that stands
    twice is one message."""
    other = {**cc(99, "user", "Also the oars"), "uuid": "u2"}
    rows = [*CLAUDE, CLAUDE[2], other, other]
    session = one("claude-code", write(tmp_path / "s.jsonl", jsonl(rows)))
    assert session.warnings == {"messages under a uuid that another message has, kept beside that message": 1}
    texts = json.dumps([n.data for n in of(Note, session)])
    assert texts.count("Also the oars") == 1
    same = one("claude-code", write(tmp_path / "t.jsonl", jsonl([*CLAUDE, CLAUDE[2]])))
    assert not same.warnings


def test_lines_of_another_program_are_warned_of(tmp_path: Path) -> None:
    """Lines of Codex or pi in a Claude Code file become notes, and the import says how many."""
    pi = {"type": "message", "id": "p1", "parentId": None, "message": {"role": "user", "content": "hi"}}
    session = one("claude-code", write(tmp_path / "s.jsonl", jsonl([*CLAUDE, *CODEX[-2:], pi])))
    assert session.warnings == {"lines of another program's session, kept as notes": 3}
    assert "message" in [n.name for n in of(Note, session)]


def test_a_search_for_tools_is_a_tool_call(tmp_path: Path) -> None:
    """Codex's search for tools is an action with the tools that it found, and no prompt shows the call as a person's words."""
    found = [{"type": "function", "name": "tie"}]
    more = [
        codex("response_item", 20, type="tool_search_call", call_id="ts", execution="client", arguments={"query": "knots"}),
        counts(20, 900),
        codex("response_item", 21, type="tool_search_output", call_id="ts", execution="client", tools=found),
        codex("response_item", 22, type="message", role="assistant", content=[{"type": "output_text", "text": "Tied"}]),
    ]
    with odograph.open("memory:") as store:
        report = store.import_sessions(write(tmp_path / "rollout.jsonl", jsonl([*CODEX, *more])))
        assert report.warnings == []
        (t,) = store.trajectories()
        (action,) = [a for a in t.actions if a.name == "tool_search"]
        assert (action.arguments, action.tool_call_id, action.result["tools"]) == ({"query": "knots"}, "ts", found)
        said = t.llm_calls[-1].messages
        assert [m["role"] for m in said if m.get("tool_call_id") == "ts"] == ["tool"]
        assert any(c["function"]["name"] == "tool_search" for m in said for c in m.get("tool_calls", []))


def test_links_that_lead_nowhere_fail_no_folder(tmp_path: Path) -> None:
    """A folder with links to themselves or to what is gone is imported, and they are named; one that the user names is refused."""
    write(tmp_path / "a" / "s.jsonl", jsonl(CLAUDE))
    (tmp_path / "a" / "loop").symlink_to("loop")
    (tmp_path / "a" / "gone.jsonl").symlink_to("nothing.jsonl")
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path / "a")
        assert (report.failed, report.imported) == ([], 1)
        assert {Path(p).name for p in report.unrecognised} == {"loop", "gone.jsonl"}
        with pytest.raises(odograph.NotFound, match="no file or folder"):
            store.import_sessions(tmp_path / "a" / "loop")


def test_a_hidden_session_in_a_folder_is_found(tmp_path: Path) -> None:
    """Aider's history is a hidden file. Other hidden files are not told of."""
    (tmp_path / "work" / ".aider.chat.history.md").parent.mkdir()
    (tmp_path / "work" / ".aider.chat.history.md").write_text(agents.AIDER)
    (tmp_path / "work" / ".DS_Store").write_bytes(b"\x00\x01Bud1")
    (tmp_path / "work" / ".env").write_text("A=1\n")
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path)
        assert (report.imported, report.failed, report.unrecognised) == (2, [], [])


NAMED = ("claude-code", "codex", "pi-session", "copilot", "droid", "qwen-code")


@pytest.mark.parametrize("name", NAMED)
def test_a_line_that_was_written_twice_counts_once(tmp_path: Path, name: str) -> None:
    """Whose lines have ids: each line twice, and the whole file twice."""
    file, values = FILES[name]

    def said(folder: str, values: list[Any]) -> list[Any]:
        with odograph.open("memory:") as store:
            store.import_sessions(write(tmp_path / folder / file, jsonl(values)))
            (t,) = store.trajectories()
            return [[(list(c.messages), c.response) for c in t.llm_calls], [(a.name, a.arguments, a.result) for a in t.actions]]

    plain = said("a", values)
    assert said("b", [v for v in values for _ in range(2)]) == plain
    assert said("c", [*values, *values]) == plain or name == "codex"  # what a person says has no id there


@pytest.mark.parametrize("name", [*NAMED, "kimi", "cursor", "codex-exec", "claude-stream"])
def test_a_first_line_of_two_is_recognised(tmp_path: Path, name: str) -> None:
    file, values = FILES[name]
    plain = imported(write(tmp_path / "a" / file, jsonl(values)))
    first, _, rest = jsonl(values).partition(b"\n")
    with odograph.open("memory:") as store:
        assert store.import_sessions(write(tmp_path / "b" / file, first + rest)).failed == []
        assert content(store) == plain


@contextlib.contextmanager
def nobody_reads(pipe: Path) -> Iterator[None]:
    """Fails where somebody opens a pipe for reading; whoever does is let go at once, so that no test waits for ever."""
    done, met = threading.Event(), []

    def let_go() -> None:
        while not done.wait(0.01):
            with contextlib.suppress(OSError):  # nobody reads
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                met.append(pipe)

    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert met == []


def test_a_pipe_among_sessions_is_no_session(tmp_path: Path) -> None:
    """A folder with a pipe is imported without it, also where an importer looks at the files beside its own; a pipe that a user
    names is refused in a sentence. Reading it would wait for a writer for ever."""
    name, (file, text) = "claude-code", ("a.jsonl", next(text for name, _, text in SMALL if name == "claude-code"))
    for number in range(2):
        (tmp_path / f"{number}{file}").write_bytes(text if isinstance(text, bytes) else text.encode())
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with odograph.open("memory:") as store, nobody_reads(tmp_path / "pipe.jsonl"):
        report = store.import_sessions(tmp_path)
        assert (report.failed, {t["format"] for t in report.trajectories}) == ([], {name})
        assert [Path(p).name for p in report.unrecognised] == ["pipe.jsonl"]
        (failed,) = store.import_sessions(tmp_path / "pipe.jsonl").failed
        assert "a pipe, a socket or a device" in failed["error"]
