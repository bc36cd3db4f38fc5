"""World rows in the lake: what a tick wrote, what forks refer to, and the state of a world as of a tick.

Three kinds of tables. One per archetype (`world_rows_...`) holds the rows that a tick changed, so a step that changes little
writes little. `world_values` holds long and shared texts once, by their content. `world_ticks` has a row per world, fork and
tick: a row of another table exists only if the tick that it belongs to does. A tick is one commit.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..codec import new_id
from ..errors import InvalidInput, NotFound, OdographError, StoreError
from ..tables.commits import Conflict, FolderCommits
from ..tables.files import DataFile, Footer, Writer, read, schema_of
from ..tables.schema import Column, Table, arrow
from .components import BASE

_MOST_DELTAS = 12  # then a tick writes the whole state of the archetype
_ROWS = "world_rows_"
_GROUP = 262_144  # rows of a row group

_BASE = (
    Column(
        "world_id",
        "text",
        "The world in which the row was written; a fork reads its parent's rows up to its first tick.",
        "names",
    ),
    Column("run_id", "text", "The run of the world that wrote the row: one opening for writing.", "names"),
    Column("entity_id", "int", "The entity, numbered from 1 in its world and shared with forks."),
    Column("tick", "int", "The tick that wrote the row. The row holds until a later tick writes another of the same entity."),
    Column("is_active", "bool", "False where the entity left this archetype: despawned, or with other components since."),
)
TICKS = Table(
    "world_ticks",
    "A row per world, fork and tick. A row of another table of worlds exists only if its world and tick are here.",
    (
        (
            Column("world_id", "text", "The world.", "names"),
            Column("kind", "text", "world, fork, tick, resume or destroy.", "names"),
            Column("name", "text", "The world's name.", "names"),
            Column("namespace", "text", "The namespace of the name.", "names"),
            Column("tick", "int", "The tick that was published; for a world or fork, the first that it will make."),
            Column("parent", "text", "Of a fork: the world that it continues.", "names"),
            Column("run_id", "text", "The run.", "names"),
            Column("time", "int", "When, in nanoseconds since 1970, UTC."),
            Column("about", "text", "What the tick did, as JSON: rows by archetype, processors, what processors say."),
        ),
    ),
)
VALUES = Table(
    "world_values",
    "Texts that many rows share, stored once.",
    (
        (
            Column("hash", "text", "SHA-256 of the text, hexadecimal."),
            Column("value", "text", "The text."),
        ),
    ),
)


@dataclass
class StorageConfig:
    """Where worlds are: `uri` is a store's folder, `namespace` parts the names of worlds in it."""

    uri: str | Path = "./odograph"
    namespace: str = "default"


def lake_of(uri: str | Path) -> Path:
    """The folder of the lake of a store's folder."""
    return Path(uri).expanduser().resolve() / "lake"


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


class State(msgspec.Struct):
    """The rows of one archetype that are there: an Arrow table sorted by entity. Shared texts are hashes."""

    table: Table
    rows: Any


def table_of(columns: Mapping[str, tuple[Column, ...]]) -> Table:
    """The table of an archetype, given the columns of its components by prefix.

    A component whose fields change has another table; rows of both are read together.
    """
    ordered = [column for prefix in sorted(columns) for column in columns[prefix]]
    signature = hashlib.sha256(repr([(c.name, c.type) for c in ordered]).encode()).hexdigest()[:8]
    name = f"{_ROWS}{'+'.join(sorted(columns))}_{signature}"
    return Table(name, f"Rows of worlds: entities with {', '.join(sorted(columns))}.", ((*_BASE, *ordered),))


def prefixes_of(table: Table) -> tuple[str, ...]:
    """The components of an archetype's table."""
    return tuple(table.name[len(_ROWS) :].rpartition("_")[0].split("+"))


def columns_of(table: Table, prefix: str) -> tuple[Column, ...]:
    """The columns of one component in an archetype's table."""
    return tuple(c for c in table.columns if c.name.startswith(f"{prefix}__"))


class Storage:
    """The worlds of one namespace in one lake."""

    def __init__(self, root: Path, namespace: str) -> None:
        self.root = root
        self.namespace = namespace
        self.commits = FolderCommits(root)
        self._known_values: set[str] = set()
        self._values: dict[str, str] = {}
        self._values_read: set[str] = set()

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
        self._publish(about, "fork", tick, "", {}, keys=made, expect={key: before})
        return about

    def find(self, name: str) -> About | None:
        """The world of a name."""
        id = self.commits.key(self._name_key(name))
        return None if id is None else self.about(id)

    def about(self, id: str) -> About:
        """A world by its id. Raises NotFound."""
        commit = self.commits.find(f"world/{id}")
        if commit is None:
            raise NotFound(f"no world {id!r} in namespace {self.namespace!r}; there are: {', '.join(self.names()) or 'none'}")
        row = commit.properties["row"]
        return About(row["world_id"], row["name"], row["namespace"], row["tick"], row["parent"], row["time"])

    def names(self) -> list[str]:
        """The names of the worlds of this namespace."""
        prefix = self._name_key("")
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
        """Makes a run the one writer of a world; who wrote before is fenced."""
        self.commits.commit(new_id(), keys={self._writer_key(about.id): run}, properties={"takes": about.id})

    def destroy(self, about: About) -> None:
        """Forgets a world's name; its rows stay for its forks."""
        self._publish(about, "destroy", self.next_tick(about.id), "", {}, id=new_id(), keys={self._name_key(about.name): None})

    def ticks(self, about: About) -> list[dict[str, Any]]:
        """The rows of `world_ticks` of a world and of what it continues, oldest first."""
        within = dict(self.lineage(about))
        found: list[dict[str, Any]] = []
        for live in self.commits.files(TICKS.name):
            if live.file.path.split("/")[1] in within:
                found += read(self.root / live.file.path, TICKS).to_pylist()
        return [row for row in found if row["kind"] != "tick" or row["tick"] < within[row["world_id"]]]

    # --- a tick -------------------------------------------------------------------------------------------------------

    def write_tick(
        self,
        about: About,
        run: str,
        tick: int,
        changed: Mapping[Table, Any],
        whole: Mapping[Table, bool],
        said: dict[str, Any],
        next_entity: int,
    ) -> None:
        """Writes the changed rows of a tick (shared texts as hashes) and publishes it, all or nothing.

        `changed`: Arrow tables by archetype; `whole`: whether they are the whole state. Raises Fenced, StoreError.
        """
        commit = new_id()
        values = self._new_values(changed)
        files: list[DataFile] = []
        try:
            if values:
                files.append(self._write(VALUES, f"world_values/{about.id}/{tick:010d}-{commit}.parquet", commit, values))
            for table, rows in changed.items():
                kind = "base" if whole[table] else "delta"
                path = f"{table.name}/{about.id}/{tick:010d}-{kind}-{commit}.parquet"
                files.append(self._write(table, path, commit, rows))
            self._publish(
                about,
                "tick",
                tick,
                run,
                said,
                files=files,
                id=commit,
                keys={self._tick_key(about.id): str(tick + 1), self._entity_key(about.id): str(next_entity)},
                expect={self._tick_key(about.id): str(tick), self._writer_key(about.id): run},
            )
        except Conflict as error:
            self._unlink(files)
            raise Fenced(
                f"world {about.name!r} was resumed by another process; its last tick is {self.next_tick(about.id) - 1}"
            ) from error
        except BaseException:
            self._unlink(files)
            raise
        self._known_values.update(row["hash"] for row in values)

    def _unlink(self, files: list[DataFile]) -> None:
        for file in files:
            (self.root / file.path).unlink(missing_ok=True)

    def _write(self, table: Table, path: str, commit: str, rows: Any) -> DataFile:
        writer = Writer(self.root, path, table, Footer(commit))
        try:
            if isinstance(rows, list):
                writer.write(rows)
            else:
                for start in range(0, rows.num_rows, _GROUP):
                    writer.write(rows.slice(start, _GROUP))
            return writer.close()
        except BaseException:
            writer.abandon()
            raise

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
        properties = {"row": row, "keys": dict(keys)}
        writer = Writer(self.root, path, TICKS, Footer(commit))
        try:
            writer.write([row])
            last = writer.close(Footer(commit, (*(f.path for f in files), path), (), properties))
        except BaseException:
            writer.abandon()
            raise
        try:
            self.commits.commit(commit, [*files, last], properties=properties, keys=keys, expect=expect)
        except BaseException:
            self._unlink([last])
            raise

    # --- values -------------------------------------------------------------------------------------------------------

    def _new_values(self, changed: Mapping[Table, Any]) -> list[dict[str, Any]]:
        """The shared texts of changed rows that the lake does not have."""
        hashes: dict[str, None] = {}
        for table, rows in changed.items():
            for name in _shared(table):
                hashes.update(dict.fromkeys(h for h in rows.column(name).unique().to_pylist() if h is not None))
        if hashes:
            self._read_values()
        return [{"hash": h, "value": self._values[h]} for h in hashes if h not in self._known_values]

    def _read_values(self, wanted: set[str] | None = None) -> None:
        """Learns which values there are; with `wanted`, their texts."""
        for live in reversed(self.commits.files(VALUES.name)):
            path = live.file.path
            if wanted is None:
                if path not in self._values_read:
                    self._values_read.add(path)
                    self._known_values.update(read(self.root / path, VALUES, ["hash"]).column("hash").to_pylist())
                continue
            missing = wanted - self._values.keys()
            if not missing:
                return
            pa = arrow()
            import pyarrow.compute as pc

            hashes = read(self.root / path, VALUES, ["hash"]).column("hash")
            if pc.any(pc.is_in(hashes, pa.array(sorted(missing), pa.string()))).as_py():
                for row in read(self.root / path, VALUES).to_pylist():
                    if row["hash"] in missing:
                        self._values[row["hash"]] = row["value"]

    def unhash(self, table: Table, rows: Any) -> Any:
        """Rows with their shared texts in the place of hashes."""
        pa = arrow()
        for name in _shared(table):
            if name in rows.column_names:
                hashes = _flat(rows.column(name)).dictionary_encode()
                keys = hashes.dictionary.to_pylist()
                self._read_values({key for key in keys if key is not None})
                texts = pa.array([None if key is None else self.value(key) for key in keys], pa.large_string())
                field = pa.field(name, pa.large_string())
                rows = rows.set_column(rows.column_names.index(name), field, texts.take(hashes.indices))
        return rows

    def value(self, hash: str) -> str:
        """The text of a hash. Raises StoreError where the lake does not have it."""
        if hash not in self._values:
            self._read_values({hash})
        try:
            return self._values[hash]
        except KeyError:
            raise StoreError(f"the text {hash} that a world refers to is in no file of {VALUES.name}") from None

    def hash(self, text: str) -> str:
        """The hash under which a text is kept; the next tick that refers to it writes the text."""
        found = _hash(text)
        self._values[found] = text
        return found

    # --- reading ------------------------------------------------------------------------------------------------------

    def states(self, about: About, tick: int) -> list[State]:
        """The rows of a world before it made `tick`, per archetype; shared texts are hashes.

        Of each archetype the newest whole state is read, and the changes over it.
        """
        lineage = {id: (bound, -depth) for depth, (id, bound) in enumerate(self.lineage(about))}
        found: list[State] = []
        for name in self.commits.tables(_ROWS):
            files: list[tuple[int, int, bool, str]] = []
            for live in self.commits.files(name):
                world, written, whole = _placed(live.file.path)
                if world in lineage and written < min(lineage[world][0], tick):
                    files.append((written, lineage[world][1], whole, live.file.path))
            if files:
                table = Table.of_arrow(schema_of(self.root / files[0][3]))
                found.append(State(table, self._state(table, sorted(files, reverse=True))))
        return found

    def _state(self, table: Table, files: list[tuple[int, int, bool, str]]) -> Any:
        """The rows that hold, given the files that may have some, newest first."""
        pa = arrow()
        import pyarrow.compute as pc

        parts: list[Any] = []
        seen: list[Any] = []
        for _, _, whole, path in files:
            rows = read(self.root / path, table)
            ids = rows.column("entity_id").combine_chunks()
            if seen:
                rows = rows.filter(pc.invert(pc.is_in(ids, pa.concat_arrays(seen))))
            parts.append(rows)
            seen.append(ids)
            if whole:
                break
        rows = pa.concat_tables(parts)
        rows = rows.filter(rows.column("is_active"))
        ids = rows.column("entity_id")
        sorted_already = len(parts) == 1 and (len(ids) < 2 or pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py())
        return rows if sorted_already else rows.take(pc.sort_indices(rows, [("entity_id", "ascending")]))

    def deltas(self, about: About, table: Table) -> int:
        """How many changes stand over the newest whole state of an archetype."""
        lineage = dict(self.lineage(about))
        placed = [_placed(live.file.path) for live in self.commits.files(table.name)]
        ours = sorted(
            ((tick, whole) for world, tick, whole in placed if world in lineage and tick < lineage[world]), reverse=True
        )
        return next((n for n, (_, whole) in enumerate(ours) if whole), len(ours))

    def history(self, about: About, prefixes: Iterable[str]) -> Any:
        """Every row that ticks wrote of archetypes that have these components, oldest first."""
        pa = arrow()
        wanted = set(prefixes)
        lineage = dict(self.lineage(about))
        parts = []
        for name in self.commits.tables(_ROWS):
            if not wanted <= set(name[len(_ROWS) :].rpartition("_")[0].split("+")):
                continue
            for live in self.commits.files(name):
                world, written, _ = _placed(live.file.path)
                if world in lineage and written < lineage[world]:
                    path = self.root / live.file.path
                    table = Table.of_arrow(schema_of(path))
                    kept = [*BASE, *(c.name for prefix in sorted(wanted) for c in columns_of(table, prefix))]
                    parts.append(self.unhash(table, read(path, table, kept)))
        if not parts:
            return None
        whole = pa.concat_tables(parts, promote_options="default")
        return whole.sort_by([("tick", "ascending"), ("entity_id", "ascending")])

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _name_key(self, name: str) -> str:
        return f"world-name/{self.namespace}/{name}"

    def _tick_key(self, id: str) -> str:
        return f"world/{id}/tick"

    def _entity_key(self, id: str) -> str:
        return f"world/{id}/next-entity"

    def _writer_key(self, id: str) -> str:
        return f"world/{id}/writer"


def _shared(table: Table) -> list[str]:
    """The columns of an archetype's table whose texts are stored apart."""
    return [c.name for c in table.columns if c.type == "text" and c.encoding == "plain" and "__" in c.name]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(column: Any) -> Any:
    """A column in one piece."""
    found = column.combine_chunks()
    return found if not hasattr(found, "num_chunks") else arrow().concat_arrays(found.chunks)


def _placed(path: str) -> tuple[str, int, bool]:
    """(world, tick, whether it is a whole state) of a file of rows."""
    _, world, file = path.split("/")
    return world, int(file[:10]), file[11:].startswith("base")


def most_deltas(count: int, changed: int, there: int) -> bool:
    """Whether a tick writes the whole state of an archetype: many changes stand over the last whole one, or most rows change."""
    return count >= _MOST_DELTAS or changed * 2 >= there
