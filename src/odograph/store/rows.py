"""The catalog's tables, and how a summary takes few bytes there: ids as bytes, a text once, rewards without what they repeat.

The table `summaries` holds numbers in the place of texts that repeat; the view `trajectories` shows the texts.
"""

from __future__ import annotations

import math
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ..codec import encode

VERSION = 14
#: Stands for a time that is not known where times are compared: before all times.
UNKNOWN_TIME = -(2**63)
#: Columns of `summaries` that hold the number of a text; in the view their numbers are called `..._number`.
SHARED = ("task", "agent", "model", "first_model", "status", "grp", "tags", "policy_version", "scenario", "writer", "uses")
_TEXT = "(select text from texts where texts.number=s.{0}) as {0}, s.{0} as {0}_number"

_TABLES = f"""
create table files(name text primary key, writer text, version integer, indexed integer not null, searched integer not null);
create table texts(number integer primary key, hash integer not null, text text not null);
create index by_hash on texts(hash);
create table summaries(
    number integer primary key, id blob not null unique, task integer, agent integer, model integer, first_model integer,
    status integer, steps integer not null default 0, llm_calls integer not null default 0, actions integer not null default 0,
    prompt_tokens integer, completion_tokens integer, stated_prompt integer, stated_completion integer, stated_calls integer,
    reward real, started integer, start_time integer, end_time integer, end_source integer,
    grp integer, tags integer, policy_version integer, fork text, source text, error text,
    task_id text, attempt integer, scenario integer, replay integer not null default 0,
    first integer not null default 0, last integer not null default 0, writer integer not null, root blob not null,
    rewards text, alone integer, uses integer, revision integer not null default 0, sealed text,
    began integer not null as (coalesce(started, case when source is null then start_time end, {UNKNOWN_TIME})),
    first_apart integer not null as (iif(first=0 and coalesce(start_time, 0)<>began, coalesce(start_time, 0), first))
);
create view trajectories as select
    s.id as id, {", ".join(_TEXT.format(name) for name in SHARED)}, s.steps, s.llm_calls, s.actions,
    s.prompt_tokens, s.completion_tokens, s.stated_prompt, s.stated_completion, s.stated_calls,
    s.reward, s.started, null as ended, s.start_time, s.end_time, s.end_source, s.fork, s.source, s.error, s.task_id,
    s.attempt, s.replay, iif(s.first=0, coalesce(s.start_time, 0), s.first) as first, s.first_apart,
    iif(s.last=0, coalesce(s.end_time, 0), s.last) as last, s.root, s.rewards, s.alone, s.revision, s.sealed, s.began
    from summaries as s;
create table newest(first integer not null);
insert into newest values({UNKNOWN_TIME});
create table places(trajectory blob not null, file text not null, start integer not null, stop integer not null);
create index by_trajectory on places(trajectory);
create table rewards(
    id text, trajectory blob not null, time integer, writer text, seq integer, supersedes text, agent text, step integer,
    name text, source text, author text, value real, weight real, targeted integer not null,
    version text, components integer not null
);
create index rewards_of on rewards(trajectory);
create table uses(
    trajectory blob not null, kind text not null, name text not null, count integer not null,
    primary key(trajectory, kind, name)
) without rowid;
create index rewards_by on rewards(author, version) where author is not null;
create index rewards_replaced on rewards(supersedes) where supersedes is not null;
create table segments(number integer primary key, path text not null unique);
create table loose(id blob primary key, sealed text) without rowid;
create table lake(id text not null, seq integer not null);
create table damages(file text not null, offset integer not null, reason text not null);
create virtual table search using fts5(text, content='', tokenize='unicode61');
create table hits(
    rowid integer primary key, trajectory blob not null, kind text, step integer, file text, start integer, stop integer
);
"""
#: Made after the summaries of the sealed tier are there, where there were none: that is quicker than keeping them up to date.
_INDICES = {
    "by_began": "summaries(began, first_apart)",
    "by_end": "summaries(substr(id, -3))",
    "by_group": "summaries(grp) where grp is not null",
    "by_task": "summaries(task_id) where task_id is not null",
    "by_fork": "summaries(fork->>'trajectory') where fork is not null",
}
_MADE = {one.strip().lower() for one in _TABLES.split(";\n") if "create" in one} | {
    f"create index {name} on {of}".lower() for name, of in _INDICES.items()
}


def create(db: sqlite3.Connection) -> None:
    """Makes the tables anew; what was in them is found again in the journal and in the sealed tier."""
    found = db.execute(  # `search` takes its own tables with it
        "select type, name from sqlite_master where type in ('view', 'table') and name not like 'sqlite_%'"
        " order by name<>'search'"
    ).fetchall()
    for kind, name in found:
        db.execute(f'drop {kind} if exists "{name}"')
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            db.execute(statement)
    make_indices(db)
    db.execute(f"pragma user_version={VERSION}")


def wrong(db: sqlite3.Connection, *, deep: bool = False) -> str | None:
    """What is wrong with a catalog of this version; None where nothing is. Pages are looked at where there are few of them, or
    with `deep`: 2 us a trajectory."""
    found = {(name, sql and sql.lower()) for name, sql in db.execute("select name, sql from sqlite_master")}
    names = {name for name, _ in found}
    if not {sql for _, sql in found} >= _MADE or not all(f"search_{part}" in names for part in _SEARCH):
        return "tables or columns are missing"
    if deep or db.execute("pragma page_count").fetchone()[0] <= _FEW_PAGES:
        said = str(db.execute("pragma quick_check(1)").fetchone()[0])
        return None if said == "ok" else said.splitlines()[-1]
    return None


_FEW_PAGES = 256
_SEARCH = ("data", "idx", "docsize", "config")  # the tables in which FTS5 keeps an index without content


def is_damage(error: Exception) -> bool:
    """Whether an error says that the database is damaged; one that is busy, full, read-only or closed is whole."""
    if isinstance(error, sqlite3.OperationalError):  # "no such table"; an error of Python's own module has no code
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code in _UNREAD or code & 0xFF in _DAMAGED
    return type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError, UnicodeDecodeError)  # of a text that SQLite names


_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
#: Errors of reading: one of writing is that of a full disk.
_UNREAD = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """What is written inside is there as a whole, or not at all."""
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:
        if db.in_transaction:  # a damaged database has left it by itself
            db.execute("rollback")
        raise


def functions(db: sqlite3.Connection) -> None:
    """What queries call."""
    db.create_function("packed", 1, packed, deterministic=True)


def make_indices(db: sqlite3.Connection) -> None:
    for name, of in _INDICES.items():
        db.execute(f"create index {name} on {of}")


def drop_indices(db: sqlite3.Connection) -> None:
    for name in _INDICES:
        db.execute(f"drop index {name}")


# --- ids -------------------------------------------------------------------------------------------------------------

Key = bytes | str
#: The ids of a JSON list, for a connection that `functions` has prepared.
IDS = "select packed(value) from json_each(?)"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def packed(id: str) -> Key:
    """An id as the catalog holds it: 16 bytes of a UUID as Odograph writes it; another id as it is."""
    return bytes.fromhex(id.replace("-", "")) if _UUID.fullmatch(id) else id


def unpacked(key: Key) -> str:
    """The id of `packed`."""
    if isinstance(key, str):
        return key
    h = key.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def begins(part: str) -> tuple[bytes, bytes] | None:
    """Between which 16 bytes, both included, all UUIDs lie that begin so; None where none can."""
    digits = part.replace("-", "")
    if not _UUID.fullmatch(part + "00000000-0000-0000-0000-000000000000"[len(part) :]):
        return None
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


# --- texts -----------------------------------------------------------------------------------------------------------


class Texts:
    """The numbers of texts. Numbers are remembered: one object must not outlive the transaction in which it was made."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, int] = {}

    def find(self, text: str) -> int:
        """The number of a text; -1 where no summary has it."""
        number = self._known.get(text)
        if number is None:
            row = self._db.execute("select number from texts where hash=? and text=?", (_hash(text), text)).fetchone()
            number = row[0] if row else -1
        return number

    def number(self, text: str | None) -> int | None:
        """The number of a text, which is new where no summary has it yet."""
        if text is None:
            return None
        number = self.find(text)
        if number < 0:
            made = self._db.execute("insert into texts(hash, text) values(?,?)", (_hash(text), text))
            number = int(made.lastrowid or 0)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[text] = number
        return number


_KNOWN = 10_000


def _hash(text: str) -> int:
    return zlib.crc32(text.encode(errors="surrogatepass"))


# --- rewards ---------------------------------------------------------------------------------------------------------

#: A reward that stands, as it is handled.
REWARD = "id, time, writer, seq, agent, step, name, source, author, value, weight, targeted, version, components"
# ... and in which order it is written, with what stands for the most frequent value: at the end of a row it is left out
_WRITTEN = (0, 1, 3, 9, 6, 7, 8, 10, 11, 4, 5, 2, 12, 13)
_USUAL = (None, None, None, True, "reward", "environment", None, 1.0, 0, None, None, True, None, 1)
_FORM = 3
_FORMS = (2, _FORM)  # those that leave out what a summary says


def packed_rewards(rows: list[list[Any]], root: str, writer: str, reward: float | None, ended: int | None) -> str | None:
    """Rewards of a trajectory as JSON; `root`, `writer`, `reward` and `ended` (`end_time`) are those of its summary, which the
    JSON does not repeat. What most trajectories have in common is written alike, which compresses well."""
    if not rows:
        return None
    base = _split(root)
    out: list[Any] = [_FORM]
    for row in rows:
        written = [row[place] for place in _WRITTEN]
        own = _split(row[0])
        if base is not None and own is not None and all(abs(a - b) < _NEAR for a, b in zip(own, base, strict=True)):
            written[0] = [own[0] - base[0], own[1] - base[1]]
            if row[1] // _MS == own[0]:  # the id was made when the record was: the time says the milliseconds
                written[0] = written[0][1]
            written[1] -= base[0] * _MS if ended is None else ended
            written[2] -= own[1] & _COUNT  # a writer counts ids and records alike: the difference stays the same
        if row[9] is not None and repr(row[9]) == repr(reward):
            written[3] = True
        if row[2] == writer:
            written[11] = True
        while written[-1] == (usual := _USUAL[len(written) - 1]) and type(written[-1]) is type(usual):
            written.pop()
        out.append(written)
    return encode(out).decode()


def unpacked_rewards(text: str | None, root: str, writer: str, reward: float | None, ended: int | None) -> list[list[Any]]:
    """The rewards of `packed_rewards`, and of the forms before it, the first of which repeated all: as rows of `REWARD`."""
    if text is None:
        return []
    form, *rows = msgspec.json.decode(text)
    if form not in _FORMS:
        return [form, *rows]
    found = []
    for written in rows:
        written += _USUAL[len(written) :]
        row: list[Any] = [None] * len(_WRITTEN)
        for place, value in zip(_WRITTEN, written, strict=True):
            row[place] = value
        base, id = _split(root), row[0]
        if not isinstance(id, str) and base is not None:
            row[1] += base[0] * _MS if ended is None or form != _FORM else ended
            ms, rest = (row[1] // _MS, id) if type(id) is int else (base[0] + id[0], id[1])
            rest += base[1]
            row[0] = unpacked((ms << _LOW | rest).to_bytes(16, "big"))
            row[3] += rest & _COUNT if form == _FORM else 0
        row[9] = reward if row[9] is True else row[9]
        row[2] = writer if row[2] is True else row[2]
        found.append(row)
    return found


def alone(text: str | None, reward: float | None) -> str | None:
    """The name of the only reward, where its value counts and is the trajectory's reward; None where that takes a longer look."""
    if text is None or reward is None or not math.isfinite(reward):
        return None
    form, *rows = msgspec.json.decode(text)
    if form not in _FORMS or len(rows) != 1:
        return None
    row = rows[0]
    return (row[4] if len(row) > 4 else "reward") if len(row) <= 3 or row[3] is True else None


def _split(id: str) -> tuple[int, int] | None:
    """The milliseconds of a UUIDv7, and the rest; None where nanoseconds would not hold them."""
    if not _UUID.fullmatch(id):
        return None
    whole = int(id.replace("-", ""), 16)
    return (whole >> _LOW, whole & (1 << _LOW) - 1) if whole >> _LOW < 1 << 42 else None


_LOW = 80  # bits behind the milliseconds
_COUNT = (1 << 20) - 1  # bits of an id that count up
_MS = 1_000_000
_NEAR = 1 << 31
