"""What a page asks for, as JSON: lists, trajectories, tokens, rows, groups, differences. Knows no HTTP and no HTML.

Each answer has a name, such as `t/ID/part/3`; a server answers it by its URL, and a file holds it under the same name.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

import msgspec

from .. import shown
from ..api import Store
from ..bulk import rarely_collected
from ..clock import iso_time
from ..codec import encode
from ..differences import diff
from ..errors import InvalidInput, NotFound, did_you_mean
from ..lineage import tokenizer
from ..statistics.comparison import BY
from ..statistics.labelled import LABELS_BY
from ..statistics.said import said_in
from ..statistics.tally import tally
from ..store.filters import STATES, Filters, described
from ..store.listing import COLUMNS, Sort
from ..training.advantages import CONVENTIONS, GroupStatistics
from ..trajectory import Trajectory
from ..types import VERSION
from .document import Document, document, first_part, raw
from .tokens import rows, tokens

#: Rows of a list that one answer has at most.
PAGE = 200
_CHECKED = 500  # trajectories of which one answer has the findings
_COMPARED = 128  # trajectories whose rows are built for the advantages of one
_CHANGED = 500  # trajectories whose labels differ that one answer has
_MEMBERS = 500  # attempts of a group that a page shows
_HELD = 256 << 20  # bytes of documents that are kept
_PATIENCE = 4.0  # a growing trajectory is read again after so many times what reading it took
#: What a page may write, and the type of each field (None: any).
_LABEL: dict[str, Any] = dict.fromkeys(("technique", "description", "rationale", "author", "target", "rubric_hash"), str)
_LABEL |= {"value": None, "score": (int, float), "supersedes": str}
_NOTE: dict[str, Any] = {"data": None, "name": str}
#: Filters whose value is a number, from the text of a URL.
_KINDS: dict[str, type] = {one.name: one.kind for one in described()}


class _Held:
    """A trajectory that was read: as of which record, when, and how long that took."""

    def __init__(self, t: Trajectory, state: tuple[Any, ...], began: float) -> None:
        self.trajectory = t
        self.state = state
        self.at = time.monotonic()
        self.cost = self.at - began
        self._document: Document | None = None
        self._making = threading.Lock()

    @property
    def document(self) -> Document:
        """Made when it is asked for."""
        with self._making:
            if self._document is None:
                began = time.monotonic()
                with rarely_collected():
                    self._document = document(self.trajectory)
                self.cost += time.monotonic() - began
            return self._document

    @property
    def size(self) -> int:
        """Bytes of the document, as far as it is made."""
        return self._document.size if self._document is not None else 0

    def first_part(self) -> bytes | None:
        """The first part, without the rest where that is not made yet."""
        made = self._document
        return first_part(self.trajectory) if made is None else made.parts[0] if made.parts else None


class Answers:
    """Answers from one store. Safe in several threads."""

    def __init__(self, store: Store, *, base: Mapping[str, Any] | None = None, by: Any = None) -> None:
        """`base`: filters that hold in each list, whatever a page asks for. `by`: a tokenizer, or its file."""
        self.store = store
        self._tokenizer = tokenizer(by)
        self._base = dict(base or {})
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}

    # --- the store --------------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """What a page needs to know before anything else."""
        where = str(self.store.backend)
        return {
            "version": VERSION,
            "store": where.rstrip("/").rpartition("/")[2] or where,
            "trajectories": self.store.count(**self._base),
            "filters": [{"name": one.name, "text": one.text} for one in described()],
            "states": STATES,
            "columns": list(COLUMNS),
            "only": {k: v for k, v in self._base.items() if k != "ids"} | ({"ids": True} if "ids" in self._base else {}),
        }

    def filters(self, query: Mapping[str, list[str]]) -> Filters:
        """The filters of a URL's query, with those that always hold. Raises InvalidInput."""
        return Filters.of(self._given(query))

    @property
    def base(self) -> Filters:
        """The filters that hold where a list has none of its own."""
        return Filters.of(self._base)

    def _given(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        found: dict[str, Any] = dict(self._base)
        for name, values in query.items():
            kind = _KINDS.get(name)
            if kind is None or not any(values):
                continue
            try:
                found[name] = (
                    [v for v in values if v] if kind is list else kind(values[-1]) if kind in (int, float) else values[-1]
                )
            except ValueError:
                raise InvalidInput(f"{name} is a number, not {values[-1]!r}") from None
        for name in ("since", "until"):
            if query.get(name) and "time_range" not in query:
                low, high = (query.get(n, [None])[-1] or None for n in ("since", "until"))
                is_span = low is not None and high is None and low[:1].isdigit() and low[-1:].isalpha() and "-" not in low
                found["time_range"] = low if is_span else (low, high)
        return found

    def health(self) -> dict[str, Any]:
        """How the store fares: how many trajectories it has, and what could not be written."""
        return {"trajectories": self.store.count(), **self.store.health()}

    def listing(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """A window of the list: `rows` from `offset` on, `total` of all; with `fold=group` a row is a group."""
        filters = self.filters(query)
        sort = Sort.of(query.get("sort", ["-started"])[-1])
        offset, size = _whole(query, "offset", 0, 1 << 40), _whole(query, "size", 100, PAGE)
        reader = self.store.backend.reader
        if query.get("fold") == ["group"]:
            total, folds = reader.folded(filters, sort, offset, size)
            rows = [msgspec.structs.asdict(f) | {"started": iso_time(f.started)} for f in folds]
            return {"total": total, "offset": offset, "rows": rows}
        found = reader.page(filters, sort, offset, size)
        rows = [s.to_dict() | {"error": s.error is not None, "task": _brief(s.task)} for s in found]
        return {"total": reader.count(filters), "offset": offset, "rows": rows}

    def counts(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The values of some filters among the chosen trajectories, with counts."""
        return dict(self.store.backend.reader.counts(self.filters(query)))

    def figures(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Distributions of rewards with intervals, by component, over time and by what `by` names."""
        return self.store.stats(cast(Any, query.get("by", [""])[-1] or None), **self._given(query)).to_dict()

    def findings(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """What `validate` finds in the newest of the chosen trajectories, and which of how many were checked."""
        given = self._given(query)
        chosen = [s.id for s in islice(self.store.summaries(newest_first=True, **given), _CHECKED)]
        if not chosen:
            return {"checked": 0, "of": 0, "counts": {}, "findings": [], "valid": True}
        return self.store.validate(ids=chosen, workers=1).to_dict() | {"of": self.store.count(**given)}

    # --- one trajectory ---------------------------------------------------------------------------------------------------

    def about(self, id: str) -> dict[str, Any]:
        """What the catalog knows of a trajectory, before anything is read."""
        whole = self.store.backend.reader.facts(id)[0]
        return next(self.store.summaries(ids=whole)).to_dict()

    def head(self, id: str) -> dict[str, Any]:
        """What is known of a trajectory as a whole, with its outline."""
        held = self._read(id)
        known = held.state == self._state(held.document.id, self.store.backend.reader.facts(id)[1].last, held.trajectory)
        forks = [{"id": one, "step": step} for one, step in self.store.backend.reader.forks(held.document.id)]
        siblings = held.trajectory.group and self.store.count(group=held.trajectory.group)
        used = self.store.used([held.document.id]).get(held.document.id)
        more = {"forks": forks, "siblings": siblings, "rewards": used.components if used else {}}
        return held.document.head | more | {"behind": not known}

    def part(self, id: str, number: int) -> bytes:
        """The entries of a part. Raises NotFound."""
        held = self._read(id)
        if number == 0 and (first := held.first_part()) is not None:
            return first
        parts = held.document.parts
        if not 0 <= number < len(parts):
            raise NotFound(f"no part {number} of trajectory {id[-8:]}; there are 0 to {len(parts) - 1}")
        return parts[number]

    def whole(self, id: str, number: int) -> bytes:
        """An entry with nothing cut. Raises NotFound."""
        found = self._read(id).document.long.get(number)
        if found is None:
            raise NotFound(f"no long entry {number} of trajectory {id[-8:]}")
        return found

    def record(self, id: str, record: str) -> bytes:
        """The JSON of a record. Raises NotFound."""
        found = raw(self._read(id).trajectory, record)
        if found is None:
            raise NotFound(f"no record {record!r} in trajectory {id[-8:]}")
        return encode(found)

    def tokens(self, id: str) -> dict[str, Any]:
        """The tokens of a trajectory by source and standing."""
        return tokens(self.trajectory(id), self._tokenizer)

    def rows(self, id: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The training rows of a trajectory, as the `edits` and `advantage` of a query ask."""
        t = self.trajectory(id)
        edits, advantage = query.get("edits", ["env"])[-1], query.get("advantage", [""])[-1]
        group = [t]
        if advantage and t.group is not None:
            if (size := self.store.count(group=t.group)) > _COMPARED:
                raise InvalidInput(f"group {t.group!r} has {size:,} trajectories; at most {_COMPARED} are compared here")
            group = [t if one.id == t.id else one for one in self.store.trajectories(group=t.group)]
        return rows(t, group, edits, advantage, self._tokenizer)

    # --- several ----------------------------------------------------------------------------------------------------------

    def group(self, name: str) -> dict[str, Any]:
        """The attempts of a group with their rewards by component and their advantages by each convention."""
        members = list(self.store.summaries(group=name, limit=_MEMBERS))
        if not members:
            raise NotFound(f"no group {name!r}")
        used = self.store.used([s.id for s in members])
        compared = [s for s in members if s.reward is not None and s.status != "running" and not s.replay]
        known = [s.reward for s in compared if s.reward is not None]
        statistics = GroupStatistics(known)
        ids = {s.id for s in compared}
        attempts = []
        for s in members:
            found = used.get(s.id)
            made = (
                {c: statistics.advantage(s.reward, by) for c, by in CONVENTIONS.items()}
                if s.reward is not None and s.id in ids
                else {}
            )
            attempts.append(s.to_dict() | {"rewards": found.components if found else {}, "advantages": made, "replay": s.replay})
        spread = {"mean": statistics.mean if known else None, "varies": statistics.varies, "known": len(known)}
        return {
            "name": name,
            "total": self.store.count(group=name),
            "attempts": attempts,
            "conventions": list(CONVENTIONS),
            **spread,
        }

    def difference(self, a: str, b: str) -> dict[str, Any]:
        """Two trajectories aligned step by step."""
        left, right = self.trajectory(a), self.trajectory(b)
        found: dict[str, Any] = msgspec.to_builtins(diff(left, right))
        return found | {"about": [shown.facts(left), shown.facts(right)]}

    def labels(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The labels of the chosen trajectories, counted by technique, version of the rubric and annotator; and what labels can
        be compared by. Raises MissingExtra."""
        given = self._given(query)
        chosen = [s.id for s in self.store.summaries(**given)] if given else None
        counted = tally(said_in(self.store, chosen))
        return {"tables": [msgspec.to_builtins(one) for one in counted], "by": [*LABELS_BY, "world", *BY]}

    def comparison(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The parts `a` and `b` of the store, or the labels that they name: measures, notes, and the trajectories that were
        labelled differently. Raises InvalidInput, MissingExtra."""
        asked = {name: query.get(name, [""])[-1] for name in ("a", "b", "by", "technique", "rubric", "judge")}
        narrow: dict[str, Any] = {name: asked[name] or None for name in ("technique", "rubric", "judge")}
        narrow["by"] = asked["by"] or "model"
        found = self.store.compare(asked["a"], asked["b"], **narrow, **self._given(query))
        whole = found.to_dict()
        return whole | {"notes": found.notes(), "changed": whole["changed"][:_CHANGED], "total_changed": len(found.changed)}

    # --- writing ----------------------------------------------------------------------------------------------------------

    def annotate(self, id: str, given: Any) -> dict[str, Any]:
        """Appends a label or a note that a page wrote; returns its id. Raises InvalidInput, NotFound."""
        if not isinstance(given, dict) or given.get("kind") not in ("label", "note"):
            raise InvalidInput(
                'a label or a note was expected: {"kind": "label", "technique": ...} or {"kind": "note", "data": ...}'
            )
        fields = {k: v for k, v in given.items() if k != "kind" and v is not None}
        known = _LABEL if given["kind"] == "label" else _NOTE
        for name, value in fields.items():
            if name not in known:
                raise InvalidInput(f"a {given['kind']} has no {name!r}; it has: {', '.join(known)}{did_you_mean(name, known)}")
            if known[name] is not None and not isinstance(value, known[name]):
                raise InvalidInput(f"{name} of a {given['kind']} is of another type than {type(value).__name__}")
        needed = "technique" if given["kind"] == "label" else "data"
        if fields.get(needed) in (None, ""):
            raise InvalidInput(f"a {given['kind']} needs a {needed}")
        run = self.store.append(id)
        try:
            made = run.label(**fields) if given["kind"] == "label" else run.note(**fields)
        except (TypeError, ValueError) as error:
            raise InvalidInput(str(error)) from None
        return {"id": made}

    # --- reading ----------------------------------------------------------------------------------------------------------

    def trajectory(self, id: str) -> Trajectory:
        """A trajectory, read again only where it grew. Raises NotFound."""
        return self._read(id).trajectory

    def _read(self, id: str) -> _Held:
        reader = self.store.backend.reader
        id, facts = reader.facts(id)
        with self._lock:
            one_at_a_time = self._reading.setdefault(id, threading.Lock())
        with one_at_a_time:
            held = self._held.get(id)
            if held is not None:
                state = self._state(id, facts.last, held.trajectory)
                if held.state == state or time.monotonic() - held.at < _PATIENCE * held.cost:
                    return held
            began = time.monotonic()
            t = self.store.trajectory(id)
            held = _Held(t, self._state(id, facts.last, t), began)
            with self._lock:
                self._held[id] = held
                self._held.move_to_end(id)
                while len(self._held) > 1 and sum(h.size for h in self._held.values()) > _HELD:
                    gone, _ = self._held.popitem(last=False)
                    self._reading.pop(gone, None)
            return held

    def _state(self, id: str, last: int, t: Trajectory) -> tuple[Any, ...]:
        """What is another where a trajectory is another: its last record, and whether its writer is at work."""
        return (last, None if t.end is not None else bool(self.store.backend.reader.alive()))


def _whole(query: Mapping[str, list[str]], name: str, default: int, most: int) -> int:
    text = query.get(name, [str(default)])[-1]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput(f"{name} is a whole number, not {text!r}")
    return min(int(text), most)


def _brief(task: Any) -> Any:
    """A task as a line of a list shows it."""
    text = task if isinstance(task, str) or task is None else encode(task).decode()
    return text if text is None else text[:300]
