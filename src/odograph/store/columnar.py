"""What statistics read of trajectories where many are sealed: whole columns out of the files of `trajectories`, by numpy.

The catalog's rows say the same, but SQLite takes longer to give 250,000 of them than all that is computed of them. Trajectories
with lines in the journal come out of the catalog, and take the place of their sealed rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from itertools import islice
from typing import Any

import msgspec

from ..codec import encode
from ..errors import MissingExtra, StoreError
from ..tables.schema import arrow
from ..tables.values import values_of
from .catalog import Catalog
from .lake import Lake
from .layout import SUMMARY, TRAJECTORIES
from .rows import UNKNOWN_TIME, packed
from .summary import Used

#: Trajectories below which SQLite gives them sooner than the modules are imported.
FEWEST = 5_000
_LATE = 10  # where more than one of so many has lines in the journal, all are read from the catalog
_TEXTS = ("group_name", "task", "task_id", "status", "writer", "tags", "uses", "reward_names")
_COUNTS = ("steps", "llm_calls", "actions", "prompt_tokens", "completion_tokens")
_STATED = {"prompt_tokens": "stated_prompt", "completion_tokens": "stated_completion", "llm_calls": "stated_calls"}
_TIMES = ("start_time", "first", "started")
_NUMBERS = (*_COUNTS, *_STATED.values(), *_TIMES, "revision")
_READ = (*_TEXTS, *_NUMBERS, "reward", "reward_values", "source")
_NONE = UNKNOWN_TIME  # stands for a number that is not known
_SAFE = 1 << 40  # numbers below it are summed without overflow
_ROWS = 16_384  # what is read at a time
_PAGE = 500  # trajectories that the catalog tells of at a time
_LONG = 64  # characters of a task of which only a hash is kept
_ID = 36  # bytes of a UUID
_DASHES = [8, 13, 18, 23]
_DIGITS = bytes("0123456789abcdef".find(chr(byte)) % 256 for byte in range(256))
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
    #: Under each name of a reward: the places of the trajectories that have it, in any order, and the value that counts in each.
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
        found = _Reading(lake, catalog, ids).columns()
    except (ImportError, MissingExtra, StoreError):
        return None
    whole = found is not None and len(found.task) == catalog.count() and lake.commits.last(TRAJECTORIES.name) == last
    return found if whole else None


class _Reading:
    """Reads the columns of a lake, some rows at a time. `late`: the trajectories with lines in the journal, of which the catalog
    tells. Raises ImportError without numpy."""

    def __init__(self, lake: Lake, catalog: Catalog, late: list[str]) -> None:
        import numpy as np

        self._np, self._lake, self._catalog, self._late = np, lake, catalog, late
        self._alive = cache(catalog.alive_writers)
        self._paths = lake.files(TRAJECTORIES.name)
        self._numbers: dict[str, dict[str | bytes | None, int]] = {name: {None: -1} for name in _TEXTS}
        #: The dictionary of each column that was read last, and the numbers of its texts.
        self._known: dict[str, tuple[Any, Any]] = {}
        self._tasks: list[int] = []  # of the ids of tasks, by their numbers
        self._flat: list[Any] = []  # values of rewards
        self._sums: dict[str, int] = {}

    def columns(self) -> Columns | None:
        """Of all trajectories; None where a file was written before these columns were. Raises StoreError."""
        np = self._np
        may_replace = self._may_replace()
        if may_replace is None:
            return None
        gone = self._replaced() if may_replace else None
        parts, at = [], 0
        for rows in _ahead(self._rows(_READ)):
            part = self._meant(self._arrays(rows))
            if gone is not None:
                stays = ~gone[at : at + len(rows)]
                at += len(rows)
                part = {name: values[stays] for name, values in part.items()}
            parts.append(self._counted(part))
        for start in range(0, len(self._late), _PAGE):
            parts.append(self._counted(self._meant(self._late_arrays(self._late[start : start + _PAGE]))))
        if not parts:
            return None
        found = {name: self._joined([part.pop(name) for part in parts]) for name in [*parts[0]]}
        began, first = found["started"], found.pop("first")
        if not ((began[1:] > began[:-1]) | ((began[1:] == began[:-1]) & (first[1:] >= first[:-1]))).all():
            order = np.lexsort((first, began))
            del began, first
            for name in found:
                found[name] = found[name][order]
        rewards = found.pop("reward_names"), found.pop("start"), found["reward"]
        numbers, labels = self._labels(found.pop("uses"), found.pop("tags"))
        return Columns(
            **found,
            statuses=self._statuses(),
            label=numbers,
            labels=labels,
            components=dict(self._components(*rewards)),
            sums=self._sums,
        )

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _may_replace(self) -> bool | None:
        """Whether a row may replace another one; None where a file was written before these columns were."""
        later = False
        for path in self._paths:
            with self._lake.open(path, TRAJECTORIES) as file:
                if "reward_names" not in file:
                    return None
                bounds = [file.bounds(group, "revision") for group in range(file.groups)]
                later = later or any(one is None or one[1] > 1 for one in bounds)
        return bool(self._late) or (later and len(self._paths) > 1)

    def _rows(self, wanted: Sequence[str]) -> Iterator[Any]:
        """Some rows after the other, without those of messages whose call never came, which are no trajectory."""
        for path in self._paths:
            with self._lake.open(path, TRAJECTORIES, dictionaries=True) as file:
                for group in range(file.groups):
                    least = file.bounds(group, "root")
                    if least is not None and least[0]:
                        yield from file.batches(wanted, _ROWS, group)
                        continue
                    for rows in file.batches([*wanted, "root"], _ROWS, group):
                        yield rows.filter(arrow().array([bool(one) for one in rows.column("root").to_pylist()]))

    def _arrays(self, rows: Any) -> dict[str, Any]:
        """The columns of some rows: numbers of texts, and numbers."""
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

    def _late_arrays(self, ids: list[str]) -> dict[str, Any]:
        """The same of trajectories that the catalog tells of. Lists become no arrays of Arrow, which loads pandas first."""
        np = self._np
        columns: dict[str, list[Any]] = {name: [] for name in _READ}
        names = [column.name for column in SUMMARY.values()]
        used = self._catalog.used(ids)
        for given in self._catalog.rows(ids):
            row = dict(zip(names, given, strict=True))
            of = used.get(row["id"], Used())
            row["uses"] = encode([[*use, 1] for use in of.uses]).decode()
            row["reward_names"], row["reward_values"] = encode([*of.components]).decode(), [*of.components.values()]
            for name, values in columns.items():
                values.append(row[name])
        found = {name: np.array([self._number(name, text) for text in columns[name]], np.int32) for name in _TEXTS}
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
        np, found = self._np, []
        for chunk in column.chunks:
            if chunk.null_count == len(chunk):
                found.append(np.full(len(chunk), -1, np.int32))
                continue
            texts = chunk if arrow().types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            before, known = self._known.get(name, (None, None))
            if before is None or not texts.dictionary.equals(before):
                known = [self._number(name, text) for text in values_of(texts.dictionary)]
                known = np.array([*known, -1], np.int32)
                self._known[name] = texts.dictionary, known
            at = self._plain(texts.indices, np.int32, len(known) - 1)
            found.append(np.full(len(chunk), known[0]) if len(known) == 2 and not chunk.null_count else known[at])
        return self._joined(found)

    def _number(self, name: str, text: str | None) -> int:
        """The number of a text of a column. Only what is told apart is kept of a long task."""
        key: str | bytes | None = text
        if text is not None and len(text) > _LONG and name == "task":
            key = blake2b(text.encode(), digest_size=16).digest()
        numbers = self._numbers[name]
        return numbers.setdefault(key, len(numbers) - 1)

    # --- what they mean -----------------------------------------------------------------------------------------------

    def _texts(self, name: str) -> list[str]:
        return [text for text in self._numbers[name] if isinstance(text, str)]

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
            for id in islice(self._texts("task_id"), len(self._tasks), None):
                self._tasks.append(self._number("task", encode(id).decode()))
            task = np.where(task_id >= 0, np.array([*self._tasks, -1], np.int32)[task_id], task)
        found["task"] = np.where(group >= 0, 2 * group, np.where(task >= 0, 2 * task + 1, -1))
        if (status < 0).any():
            running = self._alive()
            alive = np.array([*(who in running for who in self._texts("writer")), False])[writer] & ~imported
            found["status"] = np.where(status < 0, -1 - alive, status)  # of `_statuses`, from its end
        for name, stated in _STATED.items():
            more = found.pop(stated)
            found[name] = np.where(more != _NONE, more, found[name])
        return found

    def _counted(self, found: dict[str, Any]) -> dict[str, Any]:
        """The columns without those of which only the sums are wanted."""
        for name in _COUNTS:
            values = found.pop(name)
            known = values[values != _NONE]
            if len(known):
                small = max(-known.min(), known.max()) < _SAFE
                self._sums[name] = self._sums.get(name, 0) + (int(known.sum()) if small else sum(known.tolist()))
        del found["revision"]
        return found

    def _labels(self, uses: Any, tags: Any) -> tuple[Any, list[frozenset[tuple[str, str]]]]:
        """One number for what is the same, whatever the counts."""
        np = self._np
        done = [*([(kind, name) for kind, name, _ in msgspec.json.decode(text)] for text in self._texts("uses")), []]
        tagged = [*([("tag", tag) for tag in msgspec.json.decode(text)] for text in self._texts("tags")), []]
        both = (uses % len(done)).astype(np.int64) * len(tagged) + tags % len(tagged)
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
        return np.array(known, np.int32)[which], [*numbers]

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
            places, values = zip(*several, strict=True)
            yield name, (np.concatenate(places), np.concatenate(values))

    # --- which rows count ---------------------------------------------------------------------------------------------

    def _replaced(self) -> Any:
        """Of each row, whether a row of the same id replaces it: one of a later revision, or what the catalog tells. None where
        no row does."""
        np = self._np
        keys: list[Any] = []
        revisions: list[Any] = []
        for rows in self._rows(("id", "revision")):
            keys += map(self._keys, rows.column("id").chunks)
            revisions.append(self._values(rows.column("revision"), np.int64, _NONE))
        count = sum(map(len, revisions))
        keys.append(self._keys(self._late))
        revisions.append(np.full(len(self._late), np.iinfo(np.int64).max))
        first, last = np.concatenate(keys).T
        revision = np.concatenate(revisions)
        later = np.sort(last[revision > 1])
        if not len(later):
            return None
        alike = np.flatnonzero(later[np.searchsorted(later, last) % len(later)] == last)
        order = alike[np.lexsort((revision[alike], first[alike], last[alike]))]
        first, last = first[order], last[order]
        gone = np.zeros(len(revision), bool)
        gone[order[:-1][(first[1:] == first[:-1]) & (last[1:] == last[:-1])]] = True
        return gone[:count]

    def _keys(self, ids: Any) -> Any:
        """Two numbers for each id: of a UUID all that it says, else a hash."""
        np = self._np
        if not isinstance(ids, list) and len(ids):
            offsets = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset :][: len(ids) + 1]
            if (offsets[1:] - offsets[:-1] == _ID).all():
                data = np.frombuffer(ids.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _ID)
                digits = np.frombuffer(_DIGITS, np.uint8)[np.delete(data, _DASHES, axis=1)]
                if (data[:, _DASHES] == ord("-")).all() and (digits < 16).all():
                    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(np.uint64)
        texts = ids if isinstance(ids, list) else ids.to_pylist()
        return np.frombuffer(b"".join(map(_key, texts)), np.uint64).reshape(-1, 2)


def _ahead(rows: Iterator[Any]) -> Iterator[Any]:
    """What an iterator gives. Each is made while the one before is worked on."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(next, rows, rows)
        while (found := made.result()) is not rows:
            made = pool.submit(next, rows, rows)
            yield found


def _key(id: str) -> bytes:
    key = packed(id)
    return key if isinstance(key, bytes) else blake2b(id.encode(), digest_size=16).digest()
