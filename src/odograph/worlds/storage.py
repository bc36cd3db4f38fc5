"""World rows in the lake: what a tick wrote, what forks refer to, and the state of a world as of a tick.

Three kinds of tables. One per archetype (`world_rows_...`) holds the rows that a tick changed, so a step that changes little
writes little. `world_values` holds long and shared texts once, by their content. `world_ticks` has a row per world, fork and
tick: a row of another table exists only if the tick that it belongs to does. A tick is one commit: in a folder one transaction,
in tables that machines share the commit of `world_ticks`, which comes last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec

from ..codec import new_id
from ..errors import InvalidInput, NotFound, OdographError, StoreError
from ..redact import Redactor
from ..store.backend import Place
from ..store.opening import reopened
from ..store.settings import redactor_in
from ..tables.commits import Commits, Conflict, opened_in
from ..tables.files import DataFile, Footer, Writer
from ..tables.folder import FolderCommits
from ..tables.iceberg import IcebergCommits
from ..tables.schema import Table
from .layout import TICKS, VALUES, prefixes_in, said_of, shared, table_in
from .places import Where
from .reading import State, history_of, state_of
from .redacting import Redaction
from .texts import Texts, groups_of

_GROUP = 262_144  # rows of a row group
_OLD = 86_400  # seconds after which a file that waits for its commit belongs to nobody
DESTROYED = "destroyed"  #: who writes a world that was destroyed


class WorldError(OdographError, RuntimeError):
    """A tick or an operation of a world that could not be done. Nothing of it was written."""


class Fenced(WorldError):
    """Another process resumed the world: what this one stages is not written any more."""


class About(msgspec.Struct, frozen=True):
    """A world as it was made. `first` is the first tick that it makes; a fork has a parent."""

    id: str
    name: str
    namespace: str
    first: int
    parent: str | None
    time: int


class Storage:
    """The worlds of one namespace in one lake."""

    def __init__(self, where: Where, redactor: Callable[[], Redactor | None] | None = None) -> None:
        self.where = where
        self.root = where.root
        self.namespace = where.namespace
        self.commits = commits_of(where)
        self.texts = Texts(self.commits, partial(commits_of, where))
        self._given = redactor
        self._prepared = False
        self._known: dict[str, About] = {}

    @cached_property
    def redactor(self) -> Redactor | None:
        """That of the store which the worlds are in. Raises OdographError where that can't be known."""
        return (self._given() if self._given is not None else None) or redactor_in(self.where.folder)

    @cached_property
    def redaction(self) -> Redaction | None:
        """How rows are redacted."""
        return None if self.redactor is None else Redaction(self.redactor)

    def __repr__(self) -> str:
        return f"<worlds of {self.where}>"

    def look(self) -> None:
        """Looks at what other machines published; until the next look, questions are answered as of this one, or later."""
        self.commits.refresh()

    def beside(self, name: str) -> Path:
        """A folder beside the lake, for what is kept for all worlds: judges' answers."""
        return self.where.folder / name

    def close(self) -> None:
        self.commits.close()

    # --- worlds -------------------------------------------------------------------------------------------------------

    def create(self, name: str, *, fresh: bool = False) -> About:
        """A new world of a name. Raises Conflict where another process made one of this name meanwhile."""
        key = self._name_key(name)
        before = self.commits.key(key)
        if before is not None and not fresh:
            raise Conflict(f"world {name!r} exists")
        about = About(new_id(), name, self.namespace, 0, None, time.time_ns())
        made = {key: about.id, self._tick_key(about.id): "0", self._entity_key(about.id): "1"}
        self._publish(about, "world", 0, "", {}, keys=made, expect={key: before})
        return about

    def fork(self, parent: About, name: str, tick: int, *, fresh: bool = False) -> About:
        """A world that continues another from the state before `tick`: one small commit, whatever the size of the parent."""
        key = self._name_key(name)
        before = self.commits.key(key)
        if before is not None and not fresh:
            raise InvalidInput(
                f"a world named {name!r} exists in namespace {self.namespace!r}; give the fork another name, or fresh=True"
            )
        about = About(new_id(), name, self.namespace, tick, parent.id, time.time_ns())
        made = {key: about.id, self._tick_key(about.id): str(tick), self._entity_key(about.id): str(self.next_entity(parent.id))}
        try:
            self._publish(about, "fork", tick, "", {}, keys=made, expect={key: before})
        except Conflict:
            raise InvalidInput(f"another process has just made a world named {name!r}; give the fork another name") from None
        return about

    def find(self, name: str) -> About | None:
        """The world of a name, as of now."""
        self.look()
        id = self.commits.key(self._name_key(name))
        return None if id is None else self.about(id)

    def about(self, id: str) -> About:
        """A world by its id. Raises NotFound."""
        if id not in self._known:
            commit = self.commits.find(f"world/{id}")
            if commit is None:
                there = ", ".join(self.names()) or "none"
                raise NotFound(f"no world {id!r} in namespace {self.namespace!r}; there are: {there}")
            row = commit.properties.get("row") or self._made(id)
            self._known[id] = About(row["world_id"], row["name"], row["namespace"], row["tick"], row["parent"], row["time"])
        return self._known[id]

    def _made(self, id: str) -> dict[str, Any]:
        """The row that says that a world was made, where the commit says it no more: shared tables forget old snapshots."""
        path = next(live.file.path for live in self.commits.latest(f"{TICKS.name}/{id}", "~") if "-world-" in live.file.path)
        with opened_in(self.commits, path, TICKS) as file:
            (row,) = file.read().to_pylist()
        return dict(row)

    def names(self) -> list[str]:
        """The names of the worlds of this namespace."""
        prefix = f"world-name/{self.namespace}/"
        return [name[len(prefix) :] for name in self.commits.keys(prefix)]

    def next_tick(self, id: str) -> int:
        """The tick that a world makes next."""
        return int(self.commits.key(self._tick_key(id)) or 0)

    def next_entity(self, id: str) -> int:
        """The number that the next entity of a world gets."""
        return int(self.commits.key(self._entity_key(id)) or 1)

    def lineage(self, about: About) -> list[tuple[str, int]]:
        """(world, tick before which its rows count), the world itself first, then its parent, and so on."""
        found = [(about.id, 1 << 62)]
        bound = 1 << 62
        while about.parent is not None:
            bound = min(bound, about.first)
            about = self.about(about.parent)
            found.append((about.id, bound))
        return found

    def take(self, about: About, run: str) -> None:
        """Makes a run the one writer of a world; who wrote before is fenced. Raises NotFound for a world that was destroyed."""
        before = self.commits.key(self._writer_key(about.id))
        self._refuse_destroyed(about, before)
        try:
            self.commits.commit(
                new_id(),
                keys={self._writer_key(about.id): run},
                expect={self._writer_key(about.id): before},
                properties={"takes": about.id},
            )
        except Conflict:  # another process took it in between: the later one has it
            self.take(about, run)

    def check_writer(self, about: About, run: str) -> None:
        """Raises Fenced where another run took the world."""
        found = self.commits.key(self._writer_key(about.id))
        self._refuse_destroyed(about, found)
        if found != run:
            raise self._fenced(about)

    def _fenced(self, about: About) -> Fenced:
        return Fenced(
            f"another handle or process writes world {about.name!r} now (its next tick is {self.next_tick(about.id)});"
            " open the world again to take it back"
        )

    def _refuse_destroyed(self, about: About, writer: str | None) -> None:
        if writer == DESTROYED:
            raise NotFound(f"world {about.name!r} was destroyed; its rows stay for its forks")

    def is_destroyed(self, id: str) -> bool:
        """Whether a world was destroyed."""
        return self.commits.key(self._writer_key(id)) == DESTROYED

    def destroy(self, about: About) -> None:
        """Forgets a world's name; its rows stay for its forks."""
        self._refuse_destroyed(about, self.commits.key(self._writer_key(about.id)))
        keys: dict[str, str | None] = {self._writer_key(about.id): DESTROYED}
        if self.commits.key(self._name_key(about.name)) == about.id:  # else a newer world has the name
            keys[self._name_key(about.name)] = None
        self._publish(about, "destroy", self.next_tick(about.id), "", {}, id=new_id(), keys=keys)

    def ticks(self, about: About) -> list[dict[str, Any]]:
        """The rows of `world_ticks` of a world and of what it continues, oldest first."""
        found: list[dict[str, Any]] = []
        for world, bound in self.lineage(about):
            rows: list[dict[str, Any]] = []
            for live in self.commits.latest(f"{TICKS.name}/{world}", "~"):
                with opened_in(self.commits, live.file.path, TICKS) as file:
                    rows += file.read().to_pylist()
            found += [row for row in rows if row["kind"] != "tick" or row["tick"] < bound]
        order = ("world", "fork", "tick", "destroy")
        return sorted(found, key=lambda row: (row["time"], order.index(row["kind"])))

    # --- a tick -------------------------------------------------------------------------------------------------------

    def has(self, commit: str) -> bool:
        """Whether a commit was made."""
        return self.commits.find(commit) is not None

    def write_tick(
        self,
        commit: str,
        about: About,
        run: str,
        tick: int,
        changed: Mapping[Table, Any],
        whole: Mapping[Table, bool],
        said: dict[str, Any],
        next_entity: int,
    ) -> None:
        """Writes the changed rows of a tick (shared texts as hashes) and publishes it, all or nothing, as a commit of a new id.

        `changed`: Arrow tables by archetype, without the columns in which no row changed; `whole`: whether they are the whole
        state. Raises Fenced, StoreError.
        """
        self.prepare(changed)
        texts = self._new_texts(changed)
        files: list[DataFile] = []
        keys: dict[str, str | None] = {self._tick_key(about.id): str(tick + 1), self._entity_key(about.id): str(next_entity)}
        try:
            if texts:
                path = f"{VALUES.name}/{about.id}/{tick:010d}-{commit}.parquet"
                files.append(self._write(VALUES, path, commit, groups_of(texts)))
            for table, rows in changed.items():
                kind = "base" if whole[table] else "delta"
                path = f"{table.name}/{about.id}/{tick:010d}-{kind}-{commit}.parquet"
                groups = (rows.slice(start, _GROUP) for start in range(0, rows.num_rows, _GROUP))
                lean = None if whole[table] else rows.num_rows
                files.append(self._write(table.only(rows.column_names), path, commit, groups, lean=lean))
                keys[self._table_key(about.id) + table.name] = said_of(table)
            self._publish(
                about,
                "tick",
                tick,
                run,
                said,
                files=files,
                id=commit,
                keys=keys,
                expect={self._tick_key(about.id): str(tick), self._writer_key(about.id): run},
            )
        except Conflict as error:
            self._unlink(commit, files)
            self._refuse_destroyed(about, self.commits.key(self._writer_key(about.id)))
            raise self._fenced(about) from error
        except BaseException:
            self._unlink(commit, files)
            raise
        self.texts.written(texts.values())

    def prepare(self, tables: Iterable[Table] = ()) -> None:
        """Before something is written. Raises StoreError where machines redact in another way what they share."""
        if not self._prepared:
            if self.where.tables is not None:
                reopened(Place(str(self.where.folder), tables=self.where.tables)).agree_on_redaction()
            self._prepared = True
            for path in self.commits.orphans():  # what processes left that were killed in a tick
                if table_in(path.relative_to(self.root).as_posix()) is not None:
                    with suppress(OSError):
                        if time.time() - path.stat().st_mtime > _OLD:
                            path.unlink()
        self.commits.prepare(tables)

    def _unlink(self, commit: str, files: list[DataFile]) -> None:
        """Deletes the files of a commit that failed, unless it was made all the same: an interrupt may come right after it."""
        try:
            if self.where.tables is None and not self.commits.untouched(commit):
                return
        except StoreError:
            return  # nobody can tell: they stay, as those of a process that was killed
        for file in files:
            (self.root / file.path).unlink(missing_ok=True)

    def _write(self, table: Table, path: str, commit: str, groups: Iterable[Any], *, lean: int | None = None) -> DataFile:
        writer = Writer(self.root, path, table, Footer(commit), lean=lean)
        try:
            for rows in groups:
                writer.write(rows)
            return writer.close()
        except BaseException:
            writer.abandon()
            raise

    def _new_texts(self, changed: Mapping[Table, Any]) -> dict[str, str]:
        """The shared texts of changed rows that the lake does not have."""
        hashes: dict[str, None] = {}
        for table, rows in changed.items():
            for name in set(shared(table)) & set(rows.column_names):
                hashes.update(dict.fromkeys(h for h in rows.column(name).unique().to_pylist() if h is not None))
        return self.texts.new(hashes) if hashes else {}

    def _publish(
        self,
        about: About,
        kind: str,
        tick: int,
        run: str,
        said: dict[str, Any],
        *,
        files: Iterable[DataFile] = (),
        id: str | None = None,
        keys: Mapping[str, str | None],
        expect: Mapping[str, str | None] | None = None,
    ) -> None:
        commit = id or f"world/{about.id}"
        self.prepare()
        row = {
            "world_id": about.id,
            "kind": kind,
            "name": about.name,
            "namespace": about.namespace,
            "tick": tick,
            "parent": about.parent,
            "run_id": run,
            "time": time.time_ns(),
            "about": json.dumps(said, ensure_ascii=False),
        }
        path = f"{TICKS.name}/{about.id}/{tick:010d}-{commit.replace('/', '-')}.parquet"
        properties = {"keys": dict(keys)} if kind == "tick" else {"row": row, "keys": dict(keys)}
        writer = Writer(self.root, path, TICKS, Footer(commit), lean=1)
        try:
            writer.write([row])
            last = writer.close(Footer(commit, (*(f.path for f in files), path), (), properties))
        except BaseException:
            writer.abandon()
            raise
        try:
            self.commits.commit(commit, [*files, last], properties=properties, keys=keys, expect=expect)
        except BaseException:
            self._unlink(commit, [last])
            raise

    # --- reading ------------------------------------------------------------------------------------------------------

    def states(
        self, about: About, tick: int, wanted: Collection[str] = (), columns: Collection[str] | None = None
    ) -> list[State]:
        """The rows of a world before it made `tick`, per archetype that has the `wanted` components; shared texts are hashes.

        Of each archetype the newest whole state is read, and the changes over it. `columns`: of those that rows have, else all.
        """
        found: list[State] = []
        for name in self._tables(about, wanted):
            files = list(self._over_base(about, name, tick))
            if files:
                found.append(state_of(partial(opened_in, self.commits), [file.path for file in files], columns))
        return found

    def _tables(self, about: About, wanted: Collection[str]) -> list[str]:
        """The tables, of archetypes that have the `wanted` components, that a world or what it continues wrote to."""
        found: dict[str, str] = {}
        for world, _ in self.lineage(about):
            prefix = self._table_key(world)
            found |= {name[len(prefix) :]: said for name, said in self.commits.keys(prefix).items()}
        return sorted(name for name, said in found.items() if set(wanted) <= set(prefixes_in(name, said)))

    def _over_base(self, about: About, name: str, tick: int) -> Iterator[DataFile]:
        """The files of a table that hold a world's state before a tick: changes, newest first, and the whole state below them."""
        for world, bound in self.lineage(about):
            for live in self.commits.latest(f"{name}/{world}", f"{min(bound, tick):010d}"):
                yield live.file
                if _is_whole(live.file.path):
                    return

    def is_rebased(self, about: About, table: Table, tick: int, changes: int, there: int) -> bool:
        """Whether a tick writes the whole state of an archetype, given how many rows it changes and how many there are.

        It does so where the changes over the last whole state add up, so that reading stays quick and writing stays small: with
        changes of 1 % a state is written anew after 25 ticks.
        """
        over = [file.rows for file in self._over_base(about, table.name, tick) if not _is_whole(file.path)]
        return changes * 2 >= there or len(over) >= 64 or (len(over) >= 12 and (sum(over) + changes) * 4 >= there)

    def history(self, about: About, prefixes: Collection[str]) -> list[tuple[Table, Any]]:
        """Every row that ticks wrote of archetypes that have these components, by archetype; shared texts are hashes."""
        found: list[tuple[Table, Any]] = []
        for name in self._tables(about, prefixes):
            files: list[str] = []
            for world, bound in self.lineage(about):
                files += [live.file.path for live in self.commits.latest(f"{name}/{world}", f"{bound:010d}")]
            if files:
                # a whole state repeats what earlier ticks wrote
                whole = [(path, _tick_of(path) if _is_whole(path) else None) for path in reversed(files)]
                found.append(history_of(partial(opened_in, self.commits), whole))
        return found

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _name_key(self, name: str) -> str:
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"a world's name is a text, not {name!r}")
        key = f"world-name/{self.namespace}/{name}"
        try:
            key.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            raise InvalidInput(f"the name and the namespace of a world are text that UTF-8 can hold, not {key!r:.100}") from None
        return key

    def _tick_key(self, id: str) -> str:
        return f"world/{id}/tick"

    def _entity_key(self, id: str) -> str:
        return f"world/{id}/next-entity"

    def _writer_key(self, id: str) -> str:
        return f"world/{id}/writer"

    def _table_key(self, id: str) -> str:
        return f"world/{id}/table/"


def _is_whole(path: str) -> bool:
    """Whether a file of rows is a whole state."""
    return path.rpartition("/")[2][11:].startswith("base")


def _tick_of(path: str) -> int:
    """The tick that wrote a file of rows."""
    return int(path.rpartition("/")[2][:10])


def commits_of(where: Where) -> Commits:
    """Which files of worlds are live: in a folder, or in tables that machines share."""
    if where.tables is None:
        return FolderCommits(where.root)
    known = {table.name: table for table in (VALUES, TICKS)}
    return IcebergCommits(where.root, where.tables, known, TICKS.name, named=True)
