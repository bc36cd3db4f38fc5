"""The tables of worlds: the rows of each archetype, shared texts, and what was published. Knows no file and no commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ..tables.schema import Column, Table

_ROWS = "world_rows_"
_DOC = "Rows of worlds: entities with "
_NAME = 255  # bytes of a table's name, which is a folder's: longer ones, of many components, have a hash in their place

BASE_COLUMNS = (
    Column(
        "world_id",
        "text",
        "The world in which the row was written; a fork reads its parent's rows up to its first tick.",
        "names",
    ),
    Column("run_id", "text", "The run of the world that wrote the row: one opening for writing.", "names"),
    Column("entity_id", "int", "The entity, numbered from 1 in its world and shared with forks.", "delta"),
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


def table_of(columns: Mapping[str, tuple[Column, ...]]) -> Table:
    """The table of an archetype, given the columns of its components by prefix.

    A component whose fields change has another table; rows of both are read together.
    """
    ordered = [column for prefix in sorted(columns) for column in columns[prefix]]
    signature = hashlib.sha256(repr([(c.name, c.type) for c in ordered]).encode()).hexdigest()[:8]
    of = "+".join(sorted(columns))
    if len(f"{_ROWS}{of}_{signature}".encode()) > _NAME:
        of = f"{len(columns)}={hashlib.sha256(of.encode()).hexdigest()[:16]}"
    return Table(f"{_ROWS}{of}_{signature}", f"{_DOC}{', '.join(sorted(columns))}.", ((*BASE_COLUMNS, *ordered),))


def prefixes_of(table: Table) -> tuple[str, ...]:
    """The components of an archetype's table."""
    of = table.name[len(_ROWS) :].rpartition("_")[0]
    return tuple(of.split("+") if "=" not in of else table.doc[len(_DOC) : -1].split(", "))


def said_of(table: Table) -> str:
    """What a world keeps beside the name of a table: its components, where the name does not say them."""
    return "+".join(prefixes_of(table)) if "=" in table.name else "1"


def prefixes_in(name: str, said: str) -> tuple[str, ...]:
    """The components of a table, given its name and what is kept beside."""
    return tuple((said if said != "1" else name[len(_ROWS) :].rpartition("_")[0]).split("+"))


def columns_in(table: Table, prefix: str) -> tuple[Column, ...]:
    """The columns of one component in an archetype's table."""
    return tuple(c for c in table.columns if c.name.startswith(f"{prefix}__"))


def shared(table: Table) -> list[str]:
    """The columns of an archetype's table whose texts are stored apart."""
    return [c.name for c in table.columns if c.encoding == "shared"]


def table_in(path: str) -> str | None:
    """The table of a file of worlds, given its path in the lake; None for files of others."""
    name = path.split("/")[0]
    return name if name in (TICKS.name, VALUES.name) or name.startswith(_ROWS) else None
