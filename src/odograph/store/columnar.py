"""What statistics read of trajectories where many are sealed: whole columns out of the files of `trajectories`, by numpy.

The catalog's rows say the same, but SQLite takes longer to give 250,000 of them than all that is computed of them. Trajectories
with lines in the journal come out of the catalog, and take the place of their sealed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..codec import encode
from ..errors import MissingExtra, StoreError
from ..tables.schema import arrow
from ..tables.values import values_of
from .catalog import Catalog
from .lake import Lake
from .layout import SUMMARY, TRAJECTORIES
from .rows import UNKNOWN_TIME
from .summary import Used

#: Trajectories below which SQLite gives them sooner than the modules are imported.
FEWEST = 5_000
_LATE = 10  # where more than one of so many has lines in the journal, all are read from the catalog
_TEXTS = ("group_name", "task", "task_id", "status", "writer", "tags", "uses", "reward_names")
_COUNTS = ("steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens")
_STATED = {"prompt_tokens": "stated_prompt", "completion_tokens": "stated_completion", "llm_calls": "stated_calls"}
_NUMBERS = (*_COUNTS, *_STATED.values(), "start_time", "first", "started", "revision")
_READ = (*_TEXTS, *_NUMBERS, "reward", "reward_values", "source")
_NONE = UNKNOWN_TIME  # stands for a number that is not known
_SAFE = 1 << 40  # numbers below it are summed without overflow
_ID = 36  # bytes of a UUID
_FEW = 1 << 20  # combinations that are numbered by counting


class Columns(msgspec.Struct):
    """All trajectories, oldest first: arrays of numpy with a value of each of them. NaN is a number that is not known."""

    #: The number of what attempts of one task have in common; -1 where a trajectory is on its own.
    task: Any
    #: The number of the status in `statuses`; below 0: from its end.
    status: Any
    statuses: list[str]
    reward: Any
    #: Nanoseconds; UNKNOWN_TIME where it is not known.
    started: Any
    #: The number of the (kind, name) of what was done, read, asked and tagged in `labels`.
    label: Any
    labels: list[frozenset[tuple[str, str]]]
    #: Under each name of a reward: the places of the trajectories that have it, and the value that counts in each.
    components: dict[str, tuple[Any, Any]]
    #: Steps, calls of models, actions and tokens of all; tokens where any are known.
    sums: dict[str, int]


def columns(catalog: Catalog, lake: Lake) -> Columns | None:
    """The columns of all trajectories of a store; None where the catalog is quicker, or the files don't say all of it."""
    if lake.shared is not None or not lake.exists or (count := catalog.count()) < FEWEST:
        return None
    try:
        catalog.look()
        last, ids = lake.commits.last(TRAJECTORIES.name), catalog.unsealed()
        if len(ids) > count // _LATE:
            return None
        found = _Reading(lake, catalog.rows(ids), catalog.used(ids), catalog.alive_writers).columns()
    except (ImportError, MissingExtra, StoreError):
        return None
    whole = found is not None and len(found.task) == catalog.count() and lake.commits.last(TRAJECTORIES.name) == last
    return found if whole else None


class _Reading:
    """Reads the columns of a lake. `late`: what the catalog says of the trajectories with lines in the journal, and `used` of
    what happened in them. `alive` tells which writers still hold their files. Raises ImportError without numpy."""

    def __init__(self, lake: Lake, late: list[tuple[Any, ...]], used: dict[str, Used], alive: Callable[[], set[str]]) -> None:
        import numpy as np

        self._np, self._lake, self._late, self._used, self._alive = np, lake, late, used, alive
        self._paths = lake.files(TRAJECTORIES.name)
        self._numbers: dict[str, dict[str | None, int]] = {name: {None: -1} for name in _TEXTS}
        #: The ids of all rows: arrays of Arrow, and a list of those of the catalog.
        self._ids: list[Any] = []
        self._flat: list[Any] = []

    def columns(self) -> Columns | None:
        """Of all trajectories; None where a file was written before these columns were. Raises StoreError."""
        np = self._np
        parts: list[dict[str, Any]] = []
        for rows in _ahead(self._rows()):
            if rows is None:
                return None
            self._ids += rows.column("id").chunks if "id" in rows.column_names else ()
            parts.append(self._meant(self._arrays(rows)))
        if self._late:
            parts.append(self._meant(self._late_arrays()))
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        gone = self._replaced(found.pop("revision"))
        sums = {name: total for name in _COUNTS if (total := self._sum(found.pop(name), gone)) is not None}
        began, first, chosen = found["started"], found["first"], None
        if gone:
            chosen = np.delete(np.arange(len(began)), gone)
            began, first = began[chosen], first[chosen]
        if not ((began[1:] > began[:-1]) | ((began[1:] == began[:-1]) & (first[1:] >= first[:-1]))).all():
            order = np.lexsort((first, began))
            chosen = order if chosen is None else chosen[order]
        del found["first"]
        if chosen is not None:
            found = {name: values[chosen] for name, values in found.items()}
        rewards = found.pop("reward_names"), found.pop("start"), found["reward"]
        numbers, labels = self._labels(found.pop("uses"), found.pop("tags"))
        return Columns(
            **found,
            statuses=self._statuses(),
            label=numbers,
            labels=labels,
            components=dict(self._components(*rewards)),
            sums=sums,
        )

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _rows(self) -> Iterator[Any]:
        """The rows of each row group, without those of messages whose call never came, which are no trajectory; None for a file
        that was written before these columns were."""
        wanted = [*_READ, "id"] if self._late or len(self._paths) > 1 else [*_READ]
        for path in self._paths:
            with self._lake.open(path, TRAJECTORIES, dictionaries=True) as file:
                if "reward_names" not in file:
                    yield None
                for group in range(file.groups):
                    least = file.bounds(group, "root")
                    if least is not None and least[0]:
                        yield file.read(wanted, [group])
                        continue
                    rows = file.read([*wanted, "root"], [group])
                    yield rows.filter(arrow().array([bool(one) for one in rows.column("root").to_pylist()]))

    def _arrays(self, rows: Any) -> dict[str, Any]:
        """The columns of a row group: numbers of texts, and numbers."""
        np = self._np
        found = {name: self._codes(name, rows.column(name)) for name in _TEXTS}
        found |= {name: self._values(rows.column(name), np.int64, _NONE) for name in _NUMBERS}
        found["reward"] = self._values(rows.column("reward"), np.float64, np.nan)
        found["imported"] = self._joined([self._there(chunk) for chunk in rows.column("source").chunks])
        starts = []
        for chunk in rows.column("reward_values").chunks:
            offsets = np.frombuffer(chunk.offsets.buffers()[1], np.int32)[chunk.offsets.offset :][: len(chunk)]
            starts.append(np.where(self._there(chunk), offsets + sum(map(len, self._flat)), -1))
            self._flat.append(self._plain(chunk.values, np.float64, np.nan))
        return found | {"start": self._joined(starts)}

    def _late_arrays(self) -> dict[str, Any]:
        """The same of trajectories that the catalog tells of. Lists become no arrays of Arrow, which loads pandas first."""
        np = self._np
        columns: dict[str, list[Any]] = {name: [] for name in _READ}
        names = [column.name for column in SUMMARY.values()]
        for given in self._late:
            row = dict(zip(names, given, strict=True))
            of = self._used.get(row["id"], Used())
            row["uses"] = encode([[*use, 1] for use in of.uses]).decode()
            row["reward_names"], row["reward_values"] = encode([*of.components]).decode(), [*of.components.values()]
            for name, values in columns.items():
                values.append(row[name])
        found = {}
        for name in _TEXTS:
            numbers = self._numbers[name]
            found[name] = np.array([numbers.setdefault(text, len(numbers) - 1) for text in columns[name]], np.int64)
        for name in _NUMBERS:
            found[name] = np.array([_NONE if one is None else one for one in columns[name]], np.int64)
        found["reward"] = np.array(columns["reward"], np.float64)  # None becomes NaN
        found["imported"] = np.array([one is not None for one in columns["source"]])
        sizes = [len(values) for values in columns["reward_values"]]
        found["start"] = np.cumsum([sum(map(len, self._flat)), *sizes])[:-1]
        self._flat.append(np.array([value for values in columns["reward_values"] for value in values], np.float64))
        return found

    def _joined(self, arrays: list[Any]) -> Any:
        return arrays[0] if len(arrays) == 1 else self._np.concatenate(arrays)

    def _there(self, chunk: Any) -> Any:
        """Which values of an array of Arrow are not null."""
        np = self._np
        bits = chunk.buffers()[0]
        if bits is None or not chunk.null_count or chunk.null_count == len(chunk):
            return np.full(len(chunk), not chunk.null_count)
        return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[chunk.offset :][: len(chunk)].astype(bool)

    def _plain(self, chunk: Any, kind: Any, missing: Any) -> Any:
        np = self._np
        if chunk.null_count == len(chunk):
            return np.full(len(chunk), missing, kind)
        found = np.frombuffer(chunk.buffers()[1], kind)[chunk.offset :][: len(chunk)]
        return np.where(self._there(chunk), found, missing) if chunk.null_count else found

    def _values(self, column: Any, kind: Any, missing: Any) -> Any:
        return self._joined([self._plain(chunk, kind, missing) for chunk in column.chunks])

    def _codes(self, name: str, column: Any) -> Any:
        """The numbers of the texts of a column, -1 for null."""
        np, numbers = self._np, self._numbers[name]
        found = []
        for chunk in column.chunks:
            if chunk.null_count == len(chunk):
                found.append(np.full(len(chunk), -1))
                continue
            texts = chunk if arrow().types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            there = values_of(texts.dictionary)
            known = [numbers.setdefault(text, len(numbers) - 1) for text in there]
            at = self._plain(texts.indices, np.int32, len(known))
            found.append(
                np.full(len(chunk), known[0]) if len(known) == 1 and not chunk.null_count else np.array([*known, -1])[at]
            )
        return self._joined(found)

    # --- what they mean -----------------------------------------------------------------------------------------------

    def _texts(self, name: str) -> list[str]:
        return [text for text in self._numbers[name] if text is not None]

    def _statuses(self) -> list[str]:
        return [*self._texts("status"), "running", "unterminated"]

    def _meant(self, found: dict[str, Any]) -> dict[str, Any]:
        """The columns of `Columns`, as the catalog understands the columns of the table (see `rows`)."""
        np = self._np
        start = found.pop("start_time")
        imported, writer, status = found.pop("imported"), found.pop("writer"), found["status"]
        began = np.where(imported, _NONE, start) if imported.any() else start
        source = found["started"]
        began = found["started"] = np.where(source != _NONE, source, began)
        start = np.where(start == _NONE, 0, start)
        first = found["first"]
        apart = (first != _NONE) & (first != start)
        found["first"] = np.where(apart, first, np.where(began == start, 0, start))
        group, task, task_id = found.pop("group_name"), found["task"], found.pop("task_id")
        if (task_id >= 0).any():
            tasks = self._numbers["task"]
            by_id = [tasks.setdefault(encode(id).decode(), len(tasks) - 1) for id in self._texts("task_id")]
            task = np.where(task_id >= 0, np.array([*by_id, -1])[task_id], task)
        found["task"] = np.where(group >= 0, 2 * group, np.where(task >= 0, 2 * task + 1, -1))
        if (status < 0).any():
            running = self._alive()
            alive = np.array([*(who in running for who in self._texts("writer")), False])[writer] & ~imported
            found["status"] = np.where(status < 0, -1 - alive, status)  # of `_statuses`, from its end
        for name, stated in _STATED.items():
            more = found.pop(stated)
            found[name] = np.where(more != _NONE, more, found[name])
        return found

    def _sum(self, values: Any, gone: list[int]) -> int | None:
        values[gone] = _NONE
        known = values[values != _NONE]
        if not len(known):
            return None
        return int(known.sum()) if max(-known.min(), known.max()) < _SAFE else sum(known.tolist())

    def _labels(self, uses: Any, tags: Any) -> tuple[Any, list[frozenset[tuple[str, str]]]]:
        """One number for what is the same, whatever the counts."""
        np = self._np
        done = [*([(kind, name) for kind, name, _ in msgspec.json.decode(text)] for text in self._texts("uses")), []]
        tagged = [*([("tag", tag) for tag in msgspec.json.decode(text)] for text in self._texts("tags")), []]
        both = (uses % len(done)) * len(tagged) + tags % len(tagged)
        if len(done) * len(tagged) < _FEW:
            there = np.flatnonzero(np.bincount(both))
            which = np.zeros(len(done) * len(tagged), np.int64)
            which[there] = np.arange(len(there))
            which = which[both]
        else:
            there, which = np.unique(both, return_inverse=True)
        numbers: dict[frozenset[tuple[str, str]], int] = {}
        sets = (frozenset([*done[one // len(tagged)], *tagged[one % len(tagged)]]) for one in there.tolist())
        known = [numbers.setdefault(one, len(numbers)) for one in sets]
        return np.array(known, np.int64)[which], [*numbers]

    def _components(self, names: Any, start: Any, reward: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
        np, flat = self._np, self._np.concatenate(self._flat)
        parts: dict[str, list[tuple[Any, Any]]] = {}
        for number, text in enumerate(self._texts("reward_names")):
            at = np.flatnonzero(names == number)
            alone = start[at] < 0
            for n, name in enumerate(msgspec.json.decode(text)):
                values = reward[at] if alone.all() else np.where(alone, reward[at], flat[np.where(alone, 0, start[at] + n)])
                if len(at):
                    parts.setdefault(name, []).append((at, values))
        for name, several in parts.items():
            places, values = (np.concatenate(one) for one in zip(*several, strict=True))
            order = np.argsort(places) if len(several) > 1 else slice(None)
            yield name, (places[order], values[order])

    # --- which rows count ---------------------------------------------------------------------------------------------

    def _replaced(self, revision: Any) -> list[int]:
        """The rows that a row of the same id replaces."""
        np, late = self._np, len(self._late)
        later = revision > 1  # these may replace one
        later[len(later) - late :] = True
        if not later.any() or (len(self._paths) == 1 and not late):
            return []
        ids = [*self._ids, [row[0] for row in self._late]]
        ends = np.concatenate([self._ends(chunk) for chunk in ids])
        starts = np.cumsum([0, *map(len, ids)])
        last: dict[str, int] = {}
        gone = []
        for n in np.flatnonzero(np.isin(ends, ends[later])).tolist():
            part = int(np.searchsorted(starts, n, side="right")) - 1
            id = ids[part][n - int(starts[part])]
            id = id if isinstance(id, str) else id.as_py()
            before = last.get(id)
            if before is None:
                last[id] = n
            elif revision[n] >= revision[before] or n >= len(revision) - late:
                gone.append(before)
                last[id] = n
            else:
                gone.append(n)
        return gone

    def _ends(self, chunk: Any) -> Any:
        """The last eight bytes of each id, as a number."""
        np = self._np
        if isinstance(chunk, list) or not len(chunk):
            return np.array([_end(one) for one in chunk], np.uint64)
        offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset :][: len(chunk) + 1]
        if not (offsets[1:] - offsets[:-1] == _ID).all():
            return np.array([_end(one) for one in chunk.to_pylist()], np.uint64)
        data = np.frombuffer(chunk.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _ID)
        return data[:, -8:].copy().view(np.uint64).ravel()


def _ahead(rows: Iterator[Any]) -> Iterator[Any]:
    """What an iterator gives. Each is made while the one before is worked on."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(next, rows, rows)
        while (found := made.result()) is not rows:
            made = pool.submit(next, rows, rows)
            yield found


def _end(id: str) -> int:
    return int.from_bytes(id.encode()[-8:], "little")
