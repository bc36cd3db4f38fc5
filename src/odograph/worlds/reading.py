"""Which rows of an archetype hold as of a tick, and through all ticks, given its files. Knows no world and no commit.

A whole state has every column. A file of changes has the columns in which a row of it changed, and all of them where it has an
entity that was not there before: the value of a column stands in the newest file that has the column and the entity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from ..tables.files import Opened
from ..tables.schema import Table, arrow


class State(msgspec.Struct):
    """The rows of one archetype that are there: an Arrow table sorted by entity. Shared texts are hashes.

    `same` has the columns in which all rows have one value, which `rows` then does not have: most columns of labels are such.
    """

    table: Table
    rows: Any
    same: dict[str, Any] = {}

    def whole(self) -> Any:
        """The rows with all columns that were asked for, in the order of the table."""
        pa = arrow()
        names = [n for n in self.table.names if n in self.same or n in self.rows.column_names]
        schema = pa.schema([self.table.arrow.field(n) for n in names], metadata=self.table.arrow.metadata)
        arrays = [
            pa.repeat(pa.scalar(self.same[f.name], f.type), self.rows.num_rows)
            if f.name in self.same
            else self.rows.column(f.name)
            for f in schema
        ]
        return pa.table(arrays, schema=schema)


def state_of(opened: Callable[..., Opened], paths: Sequence[str], columns: Collection[str] | None = None) -> State:
    """The rows that hold: paths of changes, newest first, and of the whole state below them. `columns`: else all.

    `opened` opens a path, as `opened_in` does; without a table, as the file itself describes it.
    """
    pa = arrow()
    import numpy as np

    with ExitStack() as stack:
        base = stack.enter_context(opened(paths[-1], dictionaries=True))
        table = base.table
        changes = [stack.enter_context(opened(path, table, dictionaries=True)) for path in paths[:-1]]
        names = [n for n in table.names if columns is None or n in columns or n == "entity_id"]
        parts = [one.read([n for n in table.names if n in one and (n in names or n == "is_active")]) for one in changes]
        same = {name: value for name in names if (value := _same(name, base, parts)) is not None}
        below = base.read([n for n in names if n not in same])

    base_ids, ids = _ids(below), [_ids(part) for part in parts]
    rows_of: dict[tuple[int, ...], list[str]] = {}  # columns by the files of changes that have them
    for name in below.column_names:
        rows_of.setdefault(tuple(n for n, part in enumerate(parts) if name in part.column_names), []).append(name)
    there = None  # the entities that are there, where these are others than those of the whole state
    if parts:
        index = _latest([base_ids, *ids])
        active = np.concatenate([np.ones(len(base_ids), bool), *(_flat(part, "is_active").to_numpy(False) for part in parts)])[
            index
        ]
        there = np.concatenate([base_ids, *ids])[index][active]
        if len(there) == len(base_ids) and (there == base_ids).all():
            there = None
    made: dict[str, Any] = {}
    for which, some in rows_of.items():
        rows = below.select(some)
        if which:
            rows = pa.concat_tables([rows, *(parts[n].select(some) for n in which)]).unify_dictionaries().combine_chunks()
        if which or there is not None:
            index = _latest([base_ids, *(ids[n] for n in which)])
            if there is not None:  # every one of them is in these files: a file with a new entity has all columns
                index = index[np.searchsorted(np.concatenate([base_ids, *(ids[n] for n in which)])[index], there)]
            rows = rows.take(pa.array(index))
        made |= dict(zip(some, rows.columns, strict=True))
    order = [n for n in names if n in made]
    schema = pa.schema([table.arrow.field(n) for n in order])
    rows = pa.table([made[n] for n in order], names=order).cast(schema).combine_chunks()
    return State(table, rows, {name: value for name, (value,) in same.items()})


def _same(name: str, base: Opened, parts: list[Any]) -> tuple[Any] | None:
    """The one value of a column in a whole state and in all changes to it."""
    import pyarrow.compute as pc

    if name == "is_active":  # of rows that are there
        return (True,)
    found = None if name == "entity_id" else base.same(name)
    if found is not None:
        for part in parts:
            if name in part.column_names and part.num_rows:
                values = pc.unique(part.column(name)).to_pylist()
                if values != list(found):
                    return None
    return found


def history_of(opened: Callable[..., Opened], files: Sequence[tuple[str, int | None]]) -> tuple[Table, Any]:
    """Every row that files have, oldest first, with all columns: those that a file does not have, as they were before.

    `files`: paths, oldest first, and the tick of each whole state, of which only the rows of that tick count.
    """
    pa = arrow()
    import numpy as np
    import pyarrow.compute as pc

    with opened(next(path for path, tick in reversed(files) if tick is not None)) as file:
        table = file.table
    parts, has = [], []
    for path, tick in files:
        with opened(path, table) as file:
            rows = file.read()
            has.append([n for n in table.names if n in file])
        parts.append(rows if tick is None else rows.filter(pc.equal(rows.column("tick"), tick)))
    rows = pa.concat_tables(parts).combine_chunks()
    if all(len(some) == len(table.names) for some in has):
        return table, rows
    counts, count = [part.num_rows for part in parts], rows.num_rows
    order = np.argsort(_ids(rows), kind="stable")  # rows of an entity are beside each other, oldest first
    left = ~_flat(rows, "is_active").to_numpy(False)
    indices: dict[tuple[bool, ...], Any] = {}
    arrays = []
    for name in table.names:
        which = tuple(name in some for some in has)
        if all(which):
            arrays.append(rows.column(name))
            continue
        if which not in indices:
            there = np.repeat(which, counts)
            # an entity's first row has every column, so that no value comes from another entity
            last = np.maximum.accumulate(np.where(there[order], np.arange(count), 0))
            index = np.empty(count, np.int64)
            index[order] = order[last]
            indices[which] = pa.array(index, mask=left)
        arrays.append(rows.column(name).take(indices[which]))
    return table, pa.table(arrays, schema=rows.schema)


def _latest(ids: Sequence[Any]) -> Any:
    """Where the latest row of each entity stands, by entity: of the ids of a whole state, and of changes to it, newest first.

    A state is in order and far larger than its changes, so that these are put in their places, and nothing is sorted anew.
    """
    import numpy as np

    base, changed = ids[0], np.concatenate([ids[0][:0], *ids[1:]])
    whole = len(base)
    new, first = np.unique(changed, return_index=True)  # the first of an entity is its newest
    if whole > 1 and not (base[1:] > base[:-1]).all():
        new, first = np.unique(np.concatenate([changed, base]), return_index=True)
        return np.where(first < len(changed), whole + first, first - len(changed))
    at = np.searchsorted(base, new)
    there = (at < whole) & (base[np.minimum(at, max(0, whole - 1))] == new) if whole else np.zeros(len(new), bool)
    found = np.arange(whole)
    found[at[there]] = whole + first[there]
    return np.insert(found, at[~there], whole + first[~there])


def _ids(rows: Any) -> Any:
    return _flat(rows, "entity_id").to_numpy()


def _flat(rows: Any, name: str) -> Any:
    """A column in one piece."""
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else arrow().concat_arrays([arrow().array([], column.type), *column.chunks])
