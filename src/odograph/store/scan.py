"""A search of the sealed text. Arrow finds the rows that may hold the words, and SQLite's full text looks at those rows alone.

So both tiers find the same, and a search costs little more than the reading of the text. Knows nothing of the journal's index.
"""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from ..codec import DAMAGE
from ..tables.files import Opened
from ..tables.schema import arrow
from ..tables.values import rows_of
from .indexing import searchable
from .lake import Lake
from .layout import RECORDS, line_of

#: A row: (trajectory, kind, step, text).
Found = tuple[str, str, int | None, str]

_LOOKED = ("body", "agent", "name")  # the columns with text
_MORE = ("trajectory", "kind", "step", "stream", "n", "schema_version")
#: What `line_of` expects of a row beside these columns; a hash that is there is not made anew.
_NOTHING: dict[str, Any] = {**dict.fromkeys(RECORDS.names), "hash": ""}
_THREADS = min(os.cpu_count() or 1, 8)


def matching(lake: Lake, query: str, paths: Sequence[str] | None = None) -> Iterator[Found]:
    """Each row that holds all words of a full-text query, those of the newest files first. `paths`: the files that are looked
    at, else all."""
    with _Look(query) as look:
        for rows in _candidates(lake, look.words, paths):
            yield from look.at(rows)


def trajectories(lake: Lake, query: str) -> set[str]:
    """The trajectories of which a row holds all words of a full-text query."""
    found: set[str] = set()
    with _Look(query) as look:
        for rows in _candidates(lake, look.words, None):
            left: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for row in rows:
                left[row["trajectory"]].append(row)
            size = 1
            while left := {id: some for id, some in left.items() if some and id not in found}:
                found.update(one[0] for one in look.at([row for some in left.values() for row in some[:size]]))
                left = {id: some[size:] for id, some in left.items()}
                size *= 2  # a word that is in all rows costs one of them, and a rare one twice its rows at most
    return found


class _Look:
    """Looks at rows as SQLite's full text would."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._db = sqlite3.connect(":memory:")
        self._db.execute("create virtual table search using fts5(text, content='', tokenize='unicode61')")
        self._db.execute("create virtual table terms using fts5vocab(search, row)")
        self._db.execute("insert into search(rowid, text) values(1, ?)", (query.replace(" AND ", " "),))
        #: The words, as full text writes them: without accents, in small letters.
        self.words: list[str] = [term for (term,) in self._db.execute("select term from terms")]
        self._forget()

    def __enter__(self) -> _Look:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def at(self, rows: Sequence[dict[str, Any]]) -> Iterator[Found]:
        """Those of the rows that hold all words, the last first."""
        texts: dict[int, Found] = {}
        for number, row in enumerate(rows):
            try:
                found = searchable(line_of({**_NOTHING, **row})[2])
            except DAMAGE:
                continue
            if found is not None:
                kind, trajectory, step, text = found
                texts[number] = trajectory, kind, step, text
        self._db.executemany("insert into search(rowid, text) values(?,?)", [(n, text[3]) for n, text in texts.items()])
        held = self._db.execute("select rowid from search where search match ? order by rowid desc", (self._query,)).fetchall()
        self._forget()
        for (number,) in held:
            yield texts[number]

    def _forget(self) -> None:
        self._db.execute("insert into search(search) values('delete-all')")


def _candidates(lake: Lake, words: Sequence[str], paths: Sequence[str] | None) -> Iterator[list[dict[str, Any]]]:
    """The rows that may hold all words, those of a row group at once."""
    runs = sorted({run_in(word) for word in words}, key=len, reverse=True)

    def read(file: Opened, group: int) -> Any:
        return _may_hold(file, group, runs)

    for path in reversed(lake.files(RECORDS.name) if paths is None else paths) if words else ():
        # threads, as all of it is done by Arrow; what machines share is an open file of Python, which two can't read at once
        threads = _THREADS if lake.shared is None else 1
        for found in lake.each(path, RECORDS, read, backwards=True, damaged=lake.left_out, threads=threads):
            if found is not None:
                yield rows_of(found)


def _may_hold(file: Opened, group: int, runs: Sequence[str]) -> Any:
    """The rows of a row group that may hold all runs of letters, as an Arrow table; None for no rows."""
    pa = arrow()
    import pyarrow.compute as compute

    rows, at = file.read(_LOOKED, [group], alone=True), None
    for run in runs:
        held = compute.indices_nonzero(_holds(pa, compute, rows, run))
        if not len(held):
            return None
        rows, at = rows.take(held), held if at is None else at.take(held)
    more = file.read(_MORE, [group], alone=True).take(at)
    return pa.table([*rows.columns, *more.columns], names=[*_LOOKED, *_MORE])


def _holds(pa: Any, compute: Any, rows: Any, run: str) -> Any:
    """Which rows may hold a run of letters: body is JSON, in which escapes may stand for letters."""
    body, exactly = rows.column("body"), pattern(run)
    may = compute.match_substring_regex(body, _ESCAPED)
    if run.isascii():  # a text of ASCII needs no pattern, which is much slower
        may = compute.or_kleene(may, compute.match_substring(body, run, ignore_case=True))
    plain = compute.string_is_ascii(body)
    if not compute.all(plain).as_py():
        other = compute.if_else(plain, pa.scalar(None, body.type), body)
        may = compute.or_kleene(may, compute.match_substring_regex(other, exactly))
    for name in ("agent", "name"):
        may = compute.or_kleene(may, compute.match_substring_regex(rows.column(name), exactly))
    return compute.fill_null(may, False)


#: An escape of what is no control character, which ends words.
_ESCAPED = r"\\u(?:[1-9a-fA-F]|0[1-9a-fA-F]|00[2-9a-fA-F])"
_MARKS = r"[\x{300}-\x{36f}]*"  # full text drops some of them within a word
_LONG = 16  # letters of a word that are looked for


def run_in(word: str) -> str:
    """The longest run of letters in a word of which it is known what else full text takes for them."""
    known = "".join(c if c in _alike() or c.isascii() or _is_alone(c) else " " for c in word)
    return max(known.split(), key=len, default="")[:_LONG]


def pattern(run: str) -> str:
    """A regular expression for all that full text takes for this run: letters with accents, other cases, marks in between."""
    return _MARKS.join(f"[{c}{_alike().get(c, '')}]" for c in run)


def _is_alone(c: str) -> bool:
    """Whether a letter of East Asia is nothing but itself."""
    return "\u3041" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3"


@cache
def _alike() -> dict[str, str]:
    """By letter, as full text writes it: the letters that full text may take for it, below East Asia and of later additions."""
    found: dict[str, str] = defaultdict(str)
    for c in map(chr, chain(range(0x30, 0x7B), range(0xAA, 0x3041), range(0xA640, 0xAC00))):
        if c.isalnum():
            found[unicodedata.normalize("NFD", c.casefold())[0]] += c
    for all_of_it in [*found.values()]:  # what casefold and full text write in two ways
        for other in all_of_it:
            found[other] = all_of_it
    return dict(found)
