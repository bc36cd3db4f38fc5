"""A search of the sealed text: it finds what full text finds in the journal, and looks closely at few rows."""

from __future__ import annotations

import random
import sqlite3
import threading
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.store import committing, scan
from odograph.tables.files import Opened

PIECES = [
    "cafe",
    "Café",
    "CAFE\u0301",
    "ſtop",
    "Stop",
    "300 \u212a",
    "300 k",
    "straße",
    "МОСКВА",
    "москва",
    "και",
    "ΚΑΊ",
    "日本語",
    "日本",
]
PIECES += [
    "naïve",
    "naive",
    "na\x1bive",
    "x-cafe_y",
    "\u201ccafe\u201d",
    "✓",
    "c\\u0061fe",
    "ǅ",
    "ɐ",
    "Ɐ",
    "ﬀ",
    "İx",
    "ix",
    "が",
    "한국",
    "٣",
]
QUERIES = [
    "cafe",
    "CAFÉ",
    "café stop",
    '"stop cafe"',
    "k",
    "300",
    "straße",
    "москва",
    "Και",
    "日本",
    "日本語",
    "naïve",
    "✓",
    "✓ cafe",
]
QUERIES += ["zzz", "ɐ", "ǆ", "ﬀ", "ix", "İx", "が", "한국", "٣", "AND", '"cafe AND stop"', "u0061fe", "agent-é", "büro", "and"]


def found(store: odograph.Store, query: str) -> Any:
    hits = store.search(query, limit=10_000)
    return sorted((h.trajectory, h.kind, h.step or -1, h.text) for h in hits), [s.id for s in store.summaries(text=query)]


def test_a_search_of_sealed_text_finds_what_one_of_the_journal_finds(tmp_path: Path) -> None:
    """Accents, cases, marks, other scripts, escapes in JSON, names and agents: both tiers have the same hits."""
    chance = random.Random(1)
    with odograph.open(tmp_path) as store:
        for n in range(60):
            with store.record(task=n, agent=chance.choice(["agent-é", "AGENT-E", "b"])) as run, run.step(observation="o") as step:
                step.llm_call(
                    model="m", messages=[{"role": "user", "content": " ".join(chance.choices(PIECES, k=2))}], response="r"
                )
                step.action(chance.choice(["bu\u0308ro", "Büro", "a"]), {"q": chance.choice(PIECES)}, chance.choice(PIECES))
                step.action("escaped", {}, "@@ stop")
    for path in (tmp_path / "journal").iterdir():  # as other programs write JSON
        path.write_bytes(path.read_bytes().replace(b"@@", rb"C\u0041f\u00e9"))
    with odograph.open(tmp_path) as store:
        before = {query: found(store, query) for query in QUERIES}
        assert len(before["café stop"][0]) >= 60 and before["zzz"] == before["✓"] == ([], [])
        store.seal()
        assert not list((tmp_path / "journal").glob("*.jsonl"))
        assert {query: found(store, query) for query in QUERIES} == before


def test_a_pattern_has_all_that_full_text_takes_for_a_letter() -> None:
    """SQLite's own folding is what counts: of each letter and mark that it folds or drops, in any word that is looked for."""
    letters = [
        chr(c)
        for c in (*range(0x80, 0xAC00), *range(0xD7A4, 0xD800), *range(0xE000, 0x1F000))
        if {chr(c).casefold(), chr(c).upper(), unicodedata.normalize("NFD", chr(c))} != {chr(c)}
        or unicodedata.category(chr(c)).startswith("M")
    ]
    db = sqlite3.connect(":memory:")
    db.execute("create virtual table search using fts5(text, tokenize='unicode61')")
    db.execute("create virtual table terms using fts5vocab(search, instance)")
    db.executemany("insert into search(rowid, text) values(?,?)", [(n, f"q{c}q") for n, c in enumerate(letters)])
    texts = defaultdict[str, list[str]](list)
    for term, n in db.execute("select term, doc from terms"):
        texts[term].append(f"q{letters[n]}q")
    db.close()
    assert len(letters) > 3000 and len(texts["qeq"]) > 30 and len(texts["qq"]) > 20
    import pyarrow as pa
    import pyarrow.compute as compute

    for term, of in texts.items():
        pattern = scan.pattern(scan.run_in(term))
        assert compute.all(compute.match_substring_regex(pa.array(of), pattern)).as_py(), (term, of)
    assert [scan.run_in(word) for word in ("cafe", "москва", "日本語", "한국")] == ["cafe", "москва", "日本語", "한국"]


def filled(root: Path, texts: list[str]) -> odograph.Store:
    store = odograph.open(root)
    for text in texts:
        with store.record(task="t") as run:
            for _ in range(8):
                run.note(text)
    store.seal()
    return store


def test_few_rows_are_looked_at_closely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text beyond ASCII and escapes of control characters are passed over as quickly as ASCII is; a list by text looks at one
    row of a trajectory where all have the word."""
    looked: list[str] = []
    searchable = scan.searchable
    monkeypatch.setattr(scan, "searchable", lambda line: looked.append(line) or searchable(line))
    with filled(tmp_path, ["\u201cquoted\u201d \u2014 \u2713 na\u00efve \u65e5\u672c \x1b[31m common"] * 40) as store:
        assert store.search("needle") == [] and store.count(text="needle") == 0
        assert looked == []
        assert store.count(text="common") == 40
        assert len(looked) == 40
        assert len(store.search("naive", limit=1000)) == 8 * 40


def test_what_no_row_may_hold_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search reads the columns with text, and others of row groups alone that may hold the words."""
    read: set[str] = set()
    whole = Opened.read

    def reading(file: Opened, columns: Any = None, groups: Any = None, **how: Any) -> Any:
        if file.table is scan.RECORDS:
            read.update(columns)
        return whole(file, columns, groups, **how)

    monkeypatch.setattr(Opened, "read", reading)
    with filled(tmp_path, ["hay", "stack"]) as store:
        assert store.count(text="needle") == 0
        assert read == {"body", "agent", "name"}
        assert store.count(text="stack") == 1
        assert "trajectory" in read


def test_many_row_groups_are_searched_at_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads read row groups; the newest hits come first all the same, and of one damaged row group the others are
    searched."""
    monkeypatch.setattr(committing, "_ROWS", 1)
    monkeypatch.setattr(scan, "_THREADS", 4)
    with filled(tmp_path, [f"common {n}" for n in range(30)]) as store:
        (path,) = (store.root / "lake" / "records").glob("*.parquet")
        hits = store.search("common", limit=1000)
        assert sorted({h.text for h in hits}) == sorted(f"common {n}" for n in range(30))
        assert [h.trajectory for h in hits] == sorted([s.id for s in store.summaries()] * 8, reverse=True)
        assert store.search("common", limit=3) == hits[:3]
    import pyarrow.parquet as parquet

    about = parquet.read_metadata(path)
    assert about.num_row_groups > 100
    (body,) = (c for c in map(about.row_group(52).column, range(about.num_columns)) if c.path_in_schema == "body")
    end = body.data_page_offset + body.total_compressed_size
    data = path.read_bytes()
    path.write_bytes(data[: end - 4] + bytes(4) + data[end:])
    with odograph.open(tmp_path) as store:
        left = store.search("common", limit=1000)
    assert len(left) == len(hits) - 1 and left == sorted(left, key=lambda h: h.trajectory, reverse=True)


def test_a_phrase_of_frequent_words_is_looked_for_in_few_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all rows of a trajectory hold the words and none the phrase, each round looks at twice as many rows: all of them are
    looked at, in as many rounds as their number has digits."""
    looked: list[int] = []
    at = scan._Look.at
    monkeypatch.setattr(scan._Look, "at", lambda look, rows: looked.append(len(rows)) or at(look, rows))
    with odograph.open(tmp_path) as store:
        with store.record(task="t") as run:
            for _ in range(100):
                run.note("Hay in the STACK")
        store.seal()
        assert store.count(text='"stack hay"') == 0
    assert sum(looked) == 100 and len(looked) == 7


def test_a_row_that_can_not_be_read_is_no_hit() -> None:
    """Neither for its own words nor for those of the row before."""
    row = {"kind": "note", "trajectory": "t", "step": None, "agent": None, "name": None, "stream": None, "n": None}
    row |= {"schema_version": 1, "body": '{"data":"needle"}'}
    with scan._Look("needle") as look:
        found = list(look.at([row, {**row, "body": "needle"}, {**row, "kind": "damaged"}, {**row, "trajectory": "u"}]))
    assert [one[:2] for one in found] == [("u", "note"), ("t", "note")]


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_that_machines_share_is_read_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    """It is an open file of Python, which two threads can't read at once; files of this machine are read by several."""
    if shared:
        pytest.importorskip("pyiceberg")
    monkeypatch.setattr(committing, "_ROWS", 2)
    monkeypatch.setattr(scan, "_THREADS", 4)
    (tmp_path / "warehouse").mkdir()
    how = {"catalog": f"sqlite:///{tmp_path}/catalog.db", "local": tmp_path / "local"} if shared else {}
    threads: set[int] = set()
    may_hold = scan._may_hold
    monkeypatch.setattr(scan, "_may_hold", lambda *of: threads.add(threading.get_ident()) or may_hold(*of))
    with odograph.open(f"file://{tmp_path}/warehouse/runs" if shared else tmp_path / "runs", **how) as store:
        with store.record(task="t") as run:
            for _ in range(20):
                run.note("hay")
        store.seal()
        assert len(store.search("hay", limit=99)) == 20
    assert (threads == {threading.get_ident()}) == shared
