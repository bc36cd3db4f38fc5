"""What is where, and the summaries: SQLite beside the journal. Written by readers, never by capture; can be deleted.

The one place with SQL. It catches up with the journal files from where it stopped, in transactions that hold both what
was found and how far was read: readers of several processes can catch up at once. Where the file can't be written or is
busy too long, a catalog in memory takes its place.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..codec import DAMAGE, encode
from ..errors import InvalidInput, NotFound
from ..trajectory import trajectory_reward
from ..types import KINDS, LATE, Reward, Span
from .journal import is_alive
from .lines import Damage, File, complete_lines, open_file, read_range, unfinished

_VERSION = 6
_LATE = {str(r.__struct_config__.tag) for r in LATE}
_BATCH = 16 << 20
_BUSY_SECONDS = 10.0
_PAGE = 100  # summaries that are read at once

_TABLES = """
create table files(name text primary key, writer text, version integer, indexed integer not null, searched integer not null);
create table trajectories(
    id text primary key, reversed text not null, task text, agent text, model text, first_model text, status text,
    steps integer not null default 0, llm_calls integer not null default 0, actions integer not null default 0,
    prompt_tokens integer, completion_tokens integer, stated_prompt integer, stated_completion integer, stated_calls integer,
    reward real, started integer, ended integer, start_time integer, end_time integer, end_source integer,
    grp text, tags text, policy_version text, fork text, source text, error text,
    task_id text, attempt integer, scenario text,
    first integer not null, last integer not null, writer text not null
) without rowid;
create index by_reversed on trajectories(reversed);
create index by_first on trajectories(first);
create index by_group on trajectories(grp);
create index by_task on trajectories(task_id);
create table places(trajectory text not null, file text not null, start integer not null, stop integer not null);
create index by_trajectory on places(trajectory);
create table rewards(
    id text, trajectory text not null, time integer, writer text, seq integer, supersedes text, agent text, step integer,
    name text, source text, author text, value real, weight real, targeted integer not null,
    version text, components integer not null
);
create index rewards_of on rewards(trajectory);
create table uses(
    trajectory text not null, kind text not null, name text not null, count integer not null,
    primary key(trajectory, kind, name)
) without rowid;
create index rewards_by on rewards(author, version) where author is not null;
create index rewards_replaced on rewards(supersedes) where supersedes is not null;
create table damages(file text not null, offset integer not null, reason text not null);
create virtual table search using fts5(text, content='', tokenize='unicode61');
create table hits(
    rowid integer primary key, trajectory text not null, kind text, step integer, file text, start integer, stop integer
);
"""


class _Extra(msgspec.Struct):
    components: Any = None


class _Scan(msgspec.Struct):
    """The fields of a line that summaries need; everything else is skipped by the decoder."""

    kind: str
    trajectory: str = ""
    id: str = ""
    seq: int = 0
    time: int = 0
    writer: str = ""
    agent: str | None = None
    step: int | None = None
    source_time: int | None = None
    supersedes: str | None = None
    task: Any = None
    model: str | None = None
    group: str | None = None
    policy_version: Any = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    fork: Any = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    name: str = "reward"
    provider: str = ""
    value: Any = None
    weight: float = 1.0
    target: str | None = None
    span: Any = None
    source: str = "environment"
    author: str | None = None
    version: str | None = None
    extra: _Extra | None = None
    status: str | None = None
    metrics: dict[str, Any] = {}
    error: Any = None


_scan = msgspec.json.Decoder(_Scan).decode
_Head = msgspec.defstruct("_Head", [("kind", str), ("trajectory", str, "")])
_head = msgspec.json.Decoder(_Head).decode


class Summary(msgspec.Struct, frozen=True):
    """A trajectory as lists show it. `started` and the times are nanoseconds; None is unknown."""

    id: str
    task: Any
    agent: str | None
    model: str | None
    status: str
    steps: int
    llm_calls: int
    actions: int
    prompt_tokens: int | None
    completion_tokens: int | None
    reward: float | None
    started: int | None
    duration: float | None
    group: str | None
    tags: list[str]
    source: dict[str, Any] | None
    error: Any
    last: int
    #: Of a run of the runtime: the task's id, and which of several attempts it is.
    task_id: str | None = None
    attempt: int | None = None
    policy_version: Any = None
    #: `scenario` of the metadata; what is no text as JSON.
    scenario: str | None = None


class Used(msgspec.Struct, frozen=True):
    """What happened in a trajectory, by name."""

    #: ("action" | "context" | "model", name): what was done, read from and asked.
    uses: list[tuple[str, str]] = []
    #: The value that counts under each name of a reward, before its weight; None where it is not known.
    components: dict[str, float | None] = {}


class Hit(msgspec.Struct, frozen=True):
    """A line that a search found."""

    trajectory: str
    kind: str
    step: int | None
    text: str


class Catalog:
    """The catalog of one journal folder."""

    def __init__(self, path: Path, journal: Path) -> None:
        self._path = path
        self._journal = journal
        self._files: dict[str, File] = {}
        self._lock = threading.RLock()  # one transaction at a time on the one connection
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        for attempt in range(2):
            try:
                return self._prepared(
                    sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
                )
            except sqlite3.OperationalError:  # read-only, busy, or no folder
                break
            except sqlite3.DatabaseError:  # no database: it is only a cache
                if attempt == 0:
                    for suffix in ("", "-wal", "-shm"):
                        self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return self._in_memory()

    def _in_memory(self) -> sqlite3.Connection:
        return self._prepared(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))

    def _prepared(self, db: sqlite3.Connection) -> sqlite3.Connection:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.execute("begin immediate")
        version = db.execute("pragma user_version").fetchone()[0]
        if version > _VERSION:
            db.execute("rollback")
            db.close()
            return self._in_memory()
        if version != _VERSION:
            self._create(db)
        db.execute("commit")
        return db

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        names = db.execute("select name from sqlite_master where type='table' and name not like 'sqlite_%'").fetchall()
        for (name,) in sorted(names, key=lambda n: n[0] != "search"):  # the virtual table takes its own tables with it
            if name == "search" or not name.startswith("search_"):
                db.execute(f'drop table if exists "{name}"')
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"pragma user_version={_VERSION}")

    @property
    def in_memory(self) -> bool:
        """Whether the catalog file can't be used and a catalog in memory stands in."""
        return not self._db.execute("pragma database_list").fetchone()[2]

    def close(self) -> None:
        self._db.close()

    # --- catching up --------------------------------------------------------------------------------------------------

    def files(self) -> list[File]:
        """The journal files there are. Raises NewerStore."""
        if not self._journal.is_dir():
            return []
        found: list[File] = []
        for path in sorted(self._journal.glob("*.jsonl")):
            known = self._files.get(path.name)
            if known is None:
                if path.stat().st_size == 0:  # being created
                    continue
                known = self._files[path.name] = open_file(path)
            found.append(known)
        return found

    def catch_up(self) -> None:
        """Indexes what was written since the last time."""
        with self._lock:
            files = self.files()
            try:
                self._catch_up(files)
            except sqlite3.OperationalError:
                if self.in_memory:
                    raise
                self._db.close()
                self._db = self._in_memory()
                self._catch_up(files)

    def _catch_up(self, files: list[File]) -> None:
        db = self._db
        indexed = dict(db.execute("select name, indexed from files").fetchall())
        sizes = {f.name: f.path.stat().st_size for f in files}
        if any(size > sizes.get(name, -1) for name, size in indexed.items()):  # a file is gone or shorter: begin anew
            db.execute("begin immediate")
            self._create(db)
            db.execute("commit")
            indexed = {}
        for file in files:
            if sizes[file.name] > indexed.get(file.name, 0):
                while self._index_batch(file):
                    pass

    def _index_batch(self, file: File) -> bool:
        """Indexes up to 16 MB of one file in one transaction; whether there may be more."""
        db = self._db
        db.execute("begin immediate")
        try:
            row = db.execute("select indexed from files where name=?", (file.name,)).fetchone()
            start = row[0] if row else 0
            batch = _Batch(db, file)
            end = start
            more = False
            for offset, line in complete_lines(file.path, start):
                end = offset + len(line) + 1
                if line:
                    batch.add(offset, end, line)
                if end - start > _BATCH:
                    more = True
                    break
            batch.write()
            db.execute(
                "insert into files values(?,?,?,?,0) on conflict(name) do update set indexed=excluded.indexed",
                (file.name, file.writer, file.version, end),
            )
            db.execute("commit")
        except BaseException:
            db.execute("rollback")
            raise
        return more

    # --- finding ------------------------------------------------------------------------------------------------------

    def find(self, id: str) -> str:
        """The whole id of a unique prefix or suffix. Raises NotFound."""
        row = self._db.execute("select id from trajectories where id=?", (id,)).fetchone()
        if row:
            return str(row[0])
        wanted = id.lower()
        found: list[str] = []
        if wanted:
            query = "select id from trajectories where {0}>=? and {0}<? order by id limit 6"
            for column, part in (("id", wanted), ("reversed", wanted[::-1])):
                found += [r[0] for r in self._db.execute(query.format(column), (part, part + "\U0010ffff"))]
        unique = sorted(set(found))
        if len(unique) == 1:
            return unique[0]
        if not unique:
            count = self._db.execute("select count(*) from trajectories").fetchone()[0]
            raise NotFound(f"no trajectory {id!r} among the {count} of this store")
        more = ", ..." if len(unique) > 5 else ""
        raise NotFound(f"{id!r} is not one trajectory but several: {', '.join(unique[:5])}{more}")

    def places(self, id: str) -> list[tuple[File, int, int]]:
        """Where a trajectory's lines are: (file, start, stop), in the order they were found."""
        rows = self._db.execute("select file, start, stop from places where trajectory=? order by rowid", (id,)).fetchall()
        by_name = {f.name: f for f in self.files()} if any(r[0] not in self._files for r in rows) else self._files
        return [(by_name[name], start, stop) for name, start, stop in rows if name in by_name]

    def damages(self) -> list[Damage]:
        """Damaged lines, and ends of files that a killed writer left torn."""
        found = [Damage(*row) for row in self._db.execute("select file, offset, reason from damages order by file, offset")]
        for file in self.files():
            row = self._db.execute("select indexed from files where name=?", (file.name,)).fetchone()
            start = row[0] if row else 0
            if file.path.stat().st_size > start and not is_alive(file.path):
                rest = unfinished(file.path, start)
                found.append(Damage(file.name, start, f"torn last line of {len(rest)} bytes", torn=True))
        return found

    def alive_writers(self) -> set[str]:
        """The writers that still hold their file."""
        return {f.writer for f in self.files() if is_alive(f.path)}

    def summaries(self, clauses: Iterable[str] = (), values: Iterable[Any] = ()) -> Iterator[Summary]:
        """Summaries, oldest first, of the trajectories that there are now. A page of them is in memory at a time."""
        last = self._db.execute("select max(first) from trajectories").fetchone()[0]
        page: tuple[int, str] = (-1, "")
        alive: set[str] | None = None
        where = " and ".join([*clauses, "(first, id)>(?, ?)", "first<=?"])
        while last is not None:
            rows = self._db.execute(
                "select id, task, agent, coalesce(model, first_model), status, steps, coalesce(stated_calls, llm_calls), actions,"
                " coalesce(stated_prompt, prompt_tokens), coalesce(stated_completion, completion_tokens), reward,"
                " started, start_time, end_time, end_source, grp, tags, source, error, last, task_id, attempt, writer,"
                " policy_version, scenario, first"
                f" from trajectories where {where} order by first, id limit ?",
                (*values, *page, last, _PAGE),
            ).fetchall()
            if not rows:
                return
            page = (rows[-1][25], rows[-1][0])
            if alive is None and any(row[4] is None for row in rows):
                alive = self.alive_writers()
            yield from (_summary(row, alive or set()) for row in rows)

    def used(self, ids: list[str]) -> dict[str, Used]:
        """What happened in trajectories, of those of which anything is known."""
        given = (encode(ids).decode(),)
        found: dict[str, Used] = {}
        chosen = "where trajectory in (select value from json_each(?))"
        for id, kind, name in self._db.execute(f"select trajectory, kind, name from uses {chosen}", given):
            found.setdefault(id, Used([], {})).uses.append((kind, name))
        rewarded = [row[0] for row in self._db.execute(f"select distinct trajectory from rewards {chosen}", given)]
        for id in rewarded:
            rewards = rewards_of(self._db, id)
            components = found.setdefault(id, Used([], {})).components
            for name in dict.fromkeys(r.name for r in rewards):
                components[name] = trajectory_reward(msgspec.structs.replace(r, weight=1.0) for r in rewards if r.name == name)
        return found

    def scored(self, source: str, author: str, version: str) -> dict[str, int]:
        """Of each trajectory, how many targets (itself, or its steps) have all their rewards by this version of a function."""
        rows = self._db.execute(
            "select trajectory, count(*) from (select trajectory from rewards as r where author=? and version=? and source=?"
            " and value is not null and not targeted and not exists (select 1 from rewards where supersedes=r.id)"
            " group by trajectory, agent, step having count(distinct name)>=max(components)) group by trajectory",
            (author, version, source),
        )
        return dict(rows.fetchall())

    def ids(self, where: str, values: Iterable[Any]) -> list[str]:
        return [r[0] for r in self._db.execute(f"select id from trajectories {where}", tuple(values))]

    # --- full text ----------------------------------------------------------------------------------------------------

    def index_text(self) -> None:
        """Brings the full-text index up to what `catch_up` has seen. Only a search needs it."""
        with self._lock:
            for file in self.files():
                while self._index_text_batch(file):
                    pass

    def _index_text_batch(self, file: File) -> bool:
        db = self._db
        db.execute("begin immediate")
        try:
            row = db.execute("select searched, indexed from files where name=?", (file.name,)).fetchone()
            if row is None or row[0] >= row[1]:
                db.execute("commit")
                return False
            start, indexed = row
            number = db.execute("select coalesce(max(rowid), 0) from hits").fetchone()[0]
            end = start
            for offset, line in complete_lines(file.path, start):
                if offset >= indexed or offset - start > _BATCH:
                    break
                end = offset + len(line) + 1
                found = _searchable(line)
                if found:
                    number += 1
                    kind, trajectory, step, text = found
                    db.execute("insert into search(rowid, text) values(?,?)", (number, text))
                    db.execute("insert into hits values(?,?,?,?,?,?,?)", (number, trajectory, kind, step, file.name, offset, end))
            db.execute("update files set searched=? where name=?", (end, file.name))
            db.execute("commit")
            return bool(end < indexed)
        except BaseException:
            db.execute("rollback")
            raise

    def matching(self, query: str) -> str:
        """The full-text query for words (all must occur) and "quoted phrases". Raises InvalidInput for none."""
        parts = query.split('"')
        terms = [t for i, part in enumerate(parts) for t in ([part] if i % 2 else part.split()) if t.strip()]
        if not terms:
            raise InvalidInput("a search needs at least one word")
        return " AND ".join('"' + t.replace('"', '""').replace("\0", " ") + '"' for t in terms)

    def search(self, query: str, limit: int) -> Iterator[Hit]:
        """Lines that hold all the words, newest first."""
        rows = self._db.execute(
            "select trajectory, kind, step, file, start, stop from hits where rowid in"
            " (select rowid from search where search match ?) order by rowid desc limit ?",
            (self.matching(query), limit),
        ).fetchall()
        for trajectory, kind, step, name, start, stop in rows:
            found = _searchable(read_range(self._journal / name, start, stop).rstrip(b"\n"))
            yield Hit(trajectory, kind, step, found[3] if found else "")


def _summary(row: tuple[Any, ...], alive: set[str]) -> Summary:
    status = row[4]
    if status is None:
        status = "running" if row[22] in alive and not row[17] else "unterminated"
    started, start_time, end_time, end_source = row[11:15]
    source = msgspec.json.decode(row[17]) if row[17] else None
    if started is not None:
        duration = (end_source - started) / 1e9 if end_source is not None else None
    else:
        started = None if source is not None else start_time
        duration = (end_time - started) / 1e9 if started is not None and end_time is not None else None
    return Summary(
        id=row[0],
        task=msgspec.json.decode(row[1]) if row[1] else None,
        agent=row[2],
        model=row[3],
        status=status,
        steps=row[5],
        llm_calls=row[6],
        actions=row[7],
        prompt_tokens=row[8],
        completion_tokens=row[9],
        reward=row[10],
        started=started,
        duration=duration,
        group=row[15],
        tags=msgspec.json.decode(row[16]) if row[16] else [],
        source=source,
        error=msgspec.json.decode(row[18]) if row[18] else None,
        last=row[19],
        task_id=row[20],
        attempt=row[21],
        policy_version=msgspec.json.decode(row[23]) if row[23] else None,
        scenario=row[24],
    )


def rewards_of(db: sqlite3.Connection, id: str) -> list[Reward]:
    """The rewards of a trajectory that were not superseded, as far as its figures need them."""
    rows = db.execute(
        "select id, agent, step, name, source, author, value, weight, targeted, supersedes from rewards"
        " where trajectory=? order by time, writer, seq",
        (id,),
    ).fetchall()
    replaced = {r[9] for r in rows if r[9]}
    found = db.execute("select agent from trajectories where id=?", (id,)).fetchone()
    agent = found[0] if found else None
    return [
        Reward(
            agent=r[1] or agent,
            step=r[2],
            name=r[3],
            source=r[4],
            author=r[5],
            value=r[6],
            weight=r[7],
            span=Span(0, 0) if r[8] else None,
        )
        for r in rows
        if r[0] not in replaced
    ]


class _Batch:
    """What one run over new lines found, folded per trajectory."""

    def __init__(self, db: sqlite3.Connection, file: File) -> None:
        self._db = db
        self._file = file
        self._scans: dict[str, list[_Scan]] = {}
        self._places: list[list[Any]] = []
        self._damages: list[tuple[str, int, str]] = []

    def add(self, start: int, stop: int, line: bytes) -> None:
        if not line.isascii():  # the decoder looks into no field that it skips
            try:
                line.decode()
            except UnicodeDecodeError as error:
                self._damages.append((self._file.name, start, str(error)))
                return
        if line.startswith((b'{"kind":"message"', b'{"kind":"ids"')):
            try:
                head = _head(line)
            except DAMAGE as error:
                self._damages.append((self._file.name, start, str(error)))
                return
            self._place(head.trajectory, start, stop)  # type: ignore[attr-defined]
            return
        if line.startswith(b'{"kind":"journal"'):
            return
        try:
            scan = scan_line(line)
        except DAMAGE as error:
            self._damages.append((self._file.name, start, str(error)))
            return
        self._place(scan.trajectory, start, stop)
        self._scans.setdefault(scan.trajectory, []).append(scan)

    def _place(self, trajectory: str, start: int, stop: int) -> None:
        last = self._places[-1] if self._places else None
        if last and last[0] == trajectory and last[3] == start:
            last[3] = stop
        else:
            self._places.append([trajectory, self._file.name, start, stop])

    def write(self) -> None:
        db = self._db
        if self._places:
            first = self._places[0]
            merged = db.execute(
                "update places set stop=? where trajectory=? and file=? and stop=?", (first[3], first[0], first[1], first[2])
            )
            db.executemany("insert into places values(?,?,?,?)", self._places[1:] if merged.rowcount else self._places)
        db.executemany("insert into damages values(?,?,?)", self._damages)
        for trajectory, scans in self._scans.items():
            self._fold(trajectory, scans)

    def _fold(self, id: str, scans: list[_Scan]) -> None:
        db = self._db
        if any(s.supersedes for s in scans if s.kind not in ("reward", "label")):
            scans = self._all_scans(id)
            db.execute("delete from trajectories where id=?", (id,))
            db.execute("delete from rewards where trajectory=?", (id,))
            db.execute("delete from uses where trajectory=?", (id,))
        counts = {"step": 0, "llm_call": 0, "action": 0}
        prompt: int | None = None
        completion: int | None = None
        new: dict[str, Any] = {}
        rewards: list[tuple[Any, ...]] = []
        uses: dict[tuple[str, str], int] = {}
        for s in scans:
            named = (
                s.name if s.kind == "action" else s.provider if s.kind == "context" else s.model if s.kind == "llm_call" else None
            )
            if named:
                use = ("model" if s.kind == "llm_call" else s.kind, named)
                uses[use] = uses.get(use, 0) + 1
            if s.kind in counts:
                counts[s.kind] += 1
            if s.kind == "llm_call":
                if s.model is not None:
                    new.setdefault("first_model", s.model)
                if s.prompt_tokens is not None:
                    prompt = (prompt or 0) + s.prompt_tokens
                if s.completion_tokens is not None:
                    completion = (completion or 0) + s.completion_tokens
            elif s.kind == "start":
                new |= {
                    "task": _json(s.task),
                    "agent": s.agent,
                    "model": s.model,
                    "started": s.source_time,
                    "start_time": s.time,
                    "grp": s.group,
                    "tags": _json(s.tags or None),
                    "policy_version": _json(s.policy_version),
                    "fork": _json(s.fork),
                    "source": _json(s.metadata.get("source")),
                    "scenario": found if isinstance(found := s.metadata.get("scenario"), str) else _json(found),
                    **_run(s.metadata),
                    **_stated(s.metadata),
                }
            elif s.kind == "end":
                new |= {
                    "status": s.status or "completed",
                    "end_time": s.time,
                    "end_source": s.source_time,
                    "error": _json(s.error),
                    **_stated({"source": {"totals": s.metrics}}),
                }
            elif s.kind == "reward":
                value = float(s.value) if type(s.value) in (int, float) else None
                targeted = s.target is not None or s.span is not None
                rewards.append(
                    (
                        *(s.id, id, s.time, s.writer or self._file.writer, s.seq, s.supersedes, s.agent, s.step),
                        *(s.name, s.source, s.author, value, s.weight, targeted, s.version, _components(s.extra)),
                    )
                )
        first, last = min(s.time for s in scans), max(s.time for s in scans)
        at_work = next((s.writer or self._file.writer for s in reversed(scans) if s.kind not in _LATE), "")
        db.execute(
            "insert into trajectories(id, reversed, first, last, writer) values(?,?,?,?,?) on conflict(id) do update set"
            " first=min(first, excluded.first), last=max(last, excluded.last),"
            " writer=case when excluded.writer='' or (writer!='' and excluded.last<=last) then writer else excluded.writer end",
            (id, id[::-1], first, last, at_work),
        )
        if "first_model" in new:
            db.execute("update trajectories set first_model=coalesce(first_model, ?) where id=?", (new.pop("first_model"), id))
        if new:
            columns = ", ".join(f"{c}=?" for c in new)
            db.execute(f"update trajectories set {columns} where id=?", (*new.values(), id))
        if any(counts.values()):
            db.execute(
                "update trajectories set steps=steps+?, llm_calls=llm_calls+?, actions=actions+? where id=?",
                (counts["step"], counts["llm_call"], counts["action"], id),
            )
        if uses:
            db.executemany(
                "insert into uses values(?,?,?,?) on conflict do update set count=count+excluded.count",
                [(id, *use, count) for use, count in uses.items()],
            )
        for column, value in (("prompt_tokens", prompt), ("completion_tokens", completion)):
            if value is not None:
                db.execute(f"update trajectories set {column}=coalesce({column}, 0)+? where id=?", (value, id))
        if rewards:
            db.executemany("insert into rewards values(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rewards)
            db.execute("update trajectories set reward=? where id=?", (trajectory_reward(rewards_of(db, id)), id))

    def _all_scans(self, id: str) -> list[_Scan]:
        """Every line of a trajectory again, without those that others supersede: a correction is rare."""
        rows = self._db.execute("select file, start, stop from places where trajectory=?", (id,)).fetchall()
        scans: list[_Scan] = []
        for name, start, stop in rows:
            for line in read_range(self._file.path.with_name(name), start, stop).split(b"\n"):
                if line and not line.startswith((b'{"kind":"message"', b'{"kind":"ids"')):
                    try:
                        scans.append(scan_line(line))
                    except DAMAGE:
                        continue
        replaced = {s.supersedes for s in scans}
        return sorted((s for s in scans if s.id not in replaced), key=lambda s: (s.time, s.seq))


_WHOLE = ("seq", "time", "step", "source_time", "prompt_tokens", "completion_tokens")


def _components(extra: _Extra | None) -> int:
    """Of how many components a reward is one."""
    stated = extra.components if extra is not None else None
    return stated if type(stated) is int and 0 < stated < 1 << 31 else 1


def _fits(value: int) -> bool:
    return -(1 << 53) < value < 1 << 62


def scan_line(line: bytes) -> _Scan:
    """A record's line, as far as summaries need it. Raises one of DAMAGE where it is no record."""
    try:
        scan = _scan(line)
    except msgspec.ValidationError:
        raw = msgspec.json.decode(line)
        if not isinstance(raw, dict) or type(raw.get("kind")) is not str:
            raise
        scan = _Scan(raw["kind"])
        for field in msgspec.structs.fields(_Scan):
            try:
                setattr(scan, field.name, msgspec.convert(raw[field.name], field.type))
            except (KeyError, msgspec.ValidationError):
                continue
    for name in _WHOLE:  # SQLite has 64 bits; content has any number
        value = getattr(scan, name)
        if value is not None and not _fits(value):
            setattr(scan, name, 0 if name in ("seq", "time") else None)
    if scan.kind not in KINDS:
        raise msgspec.ValidationError(f"no record kind {scan.kind!r}")
    if not scan.trajectory:
        raise msgspec.ValidationError("a record without a trajectory")
    return scan


def _run(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the runtime says of a run."""
    about = metadata.get("runtime")
    id, attempt = (about.get("task_id"), about.get("attempt")) if isinstance(about, dict) else (None, None)
    return {"task_id": id if isinstance(id, str) else None, "attempt": attempt if type(attempt) is int else None}


def _stated(metadata: dict[str, Any]) -> dict[str, int]:
    """Totals that a source states, in an end record or, where a session has none, with its start."""
    source = metadata.get("source")
    totals = source.get("totals") if isinstance(source, dict) else None
    names = {"stated_prompt": "prompt_tokens", "stated_completion": "completion_tokens", "stated_calls": "llm_calls"}
    if not isinstance(totals, dict):
        return {}
    return {column: value for column, name in names.items() if type(value := totals.get(name)) is int and _fits(value)}


def _json(value: Any) -> str | None:
    return None if value is None else encode(value).decode()


_NOT_TEXT = {"kind", "id", "trajectory", "parent", "hash", "writer", "packed", "llm_call", "target", "supersedes", "events"}
_LONG_WORD = 4096  # base64 and the like


def _searchable(line: bytes) -> tuple[str, str, int | None, str] | None:
    """(kind, trajectory, step, text) of a line that has text, else None."""
    try:
        raw = msgspec.json.decode(line)
    except DAMAGE:
        return None
    if not isinstance(raw, dict) or raw.get("kind") in ("ids", "journal") or type(raw.get("trajectory")) is not str:
        return None
    words: list[str] = []
    stack: list[Any] = [v for k, v in reversed(raw.items()) if k not in _NOT_TEXT]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if len(value) < _LONG_WORD or " " in value[:_LONG_WORD] or "\n" in value[:_LONG_WORD]:
                words.append(value)
        elif isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
    if not words:
        return None
    step = raw.get("step")
    return str(raw["kind"]), raw["trajectory"], step if type(step) is int and _fits(step) else None, "\n".join(words)
