"""Labels by people: what an annotator labels next, and how a label becomes a record. Knows no terminal and no browser.

An annotator sees a session and the rubric, and no judge's label, no reward and no other annotator's label. All annotators get
the same sample in the same order, so their labels can be compared. Each label is written at once, so a queue can stop anywhere.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any, Protocol, Unpack

import msgspec

from ..codec import content_hash
from ..errors import InvalidInput, NotFound, check_count
from ..groups import wants_running
from ..labels import current, is_by_person, quote_of, turn_of
from ..store.filters import FilterArgs, Filters
from ..store.summary import Summary
from ..trajectory import Trajectory as Recorded
from ..types import Label as LabelRecord
from .components import Trajectory, Turn, target_of
from .prompting import session_of as session_lines
from .rubrics import Rubric
from .sessions import session_of
from .verdicts import supported

#: The columns of a file of labels.
COLUMNS = ("trajectory", "technique", "value", "score", "rationale", "author", "source", "rubric", "target", "turn", "quote")
_FORMULA = tuple("=+-@\t\r")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


class LabelStore(Protocol):
    """The part of a store that labels are read from and written to."""

    def summaries(self, *, newest_first: bool = False, **filters: Unpack[FilterArgs]) -> Iterator[Summary]: ...
    def trajectory(self, id: str) -> Recorded: ...
    def trajectories(self, **filters: Unpack[FilterArgs]) -> Iterator[Recorded]: ...
    def append(self, id: str) -> Any: ...


def chosen(
    store: LabelStore, rubric: Rubric, sample: int | None = None, seed: int | None = None, **filters: Unpack[FilterArgs]
) -> list[str]:
    """The ids of the trajectories that are labelled by a rubric, in the order in which people label them.

    `sample` and `seed` override those of the rubric. The order is that of a hash of seed and id, so a larger sample contains a
    smaller one, and trajectories that come later change little. Those that are still being recorded are left out, unless a filter
    asks for them.
    """
    count = rubric.sample if sample is None else sample
    drawn = rubric.seed if seed is None else seed
    if count is not None:
        check_count("sample", count)
    running = wants_running(Filters.of(filters))
    found = [s for s in store.summaries(**filters) if running or s.status != "running"]
    if rubric.strategy == "first":
        return [s.id for s in found][:count]
    order = {s.id: content_hash([drawn, s.id]) for s in found}
    found.sort(key=lambda s: order[s.id])
    if count is None or count >= len(found) or rubric.strategy == "random":
        return [s.id for s in found][:count]
    strata: dict[str, list[str]] = {}
    for s in found:
        strata.setdefault(str(getattr(s, rubric.stratify_by)), []).append(s.id)
    # Each trajectory's place in its stratum, as a share: the smallest shares first take the same part of each stratum.
    places = {id: (n + 0.5) / len(ids) for ids in strata.values() for n, id in enumerate(ids)}
    return sorted(places, key=lambda id: (places[id], order[id]))[:count]


class Item(msgspec.Struct, frozen=True):
    """What is labelled next. `session` has the turns; nothing here says what a judge or another person thinks."""

    trajectory: str
    task: Any
    session: Trajectory
    turns: list[Turn]
    #: Which of how many, from 1.
    number: int
    of: int


class Given(msgspec.Struct, frozen=True):
    """A label that was given in this queue."""

    trajectory: str
    record: str


class Queue:
    """What one annotator labels by one rubric: `item = queue.next()`, `queue.label(item, "careful")`, `queue.next()`, ...

    An annotator's earlier labels by this version of the rubric are done. `sample`, `seed` and filters: see `chosen`.
    """

    def __init__(
        self,
        store: LabelStore,
        rubric: Rubric,
        annotator: str,
        *,
        sample: int | None = None,
        seed: int | None = None,
        **filters: Unpack[FilterArgs],
    ) -> None:
        if not annotator.strip():
            raise InvalidInput("an annotator has a name")
        self.store = store
        self.rubric = rubric
        self.annotator = annotator.strip()
        self.ids: list[str] = chosen(store, rubric, sample, seed, **filters)
        self._waiting: list[str] = list(reversed(self.ids))  # the next one is the last
        self._skipped: list[str] = []
        self._given: list[Given] = []
        self._done: set[str] = set()

    @property
    def done(self) -> int:
        """How many of `ids` have this annotator's label, as far as the queue has come."""
        return len(self._done)

    def next(self) -> Item | None:
        """The first that this annotator did not label; those that were skipped come last. None: nothing is left."""
        while self._waiting or self._skipped:
            if not self._waiting:
                self._waiting, self._skipped = list(reversed(self._skipped)), []
            id = self._waiting[-1]
            t = self.store.trajectory(id)
            if any(self._is_mine(one) and turn_of(one) is None for one in current(t.labels)):
                self._done.add(id)
                self._waiting.pop()
                continue
            session = session_of(t)
            return Item(id, t.task, session, session.get_turns(), self.ids.index(id) + 1, len(self.ids))
        return None

    def label(self, item: Item, value: str = "", score: float | None = None, *, rationale: str | None = None) -> str:
        """Writes this annotator's label of a session, and returns the record's id. The score is in the rubric's range.

        Raises InvalidInput for what the rubric does not allow.
        """
        made = write(self.store, item.trajectory, self.rubric, self.annotator, value, score, rationale)
        self._gave(item, made)
        return made

    def find(
        self, item: Item, turn: int, value: str = "", score: float | None = None, *, quote: str = "", rationale: str | None = None
    ) -> str:
        """Writes a label of one turn of a session (or of its step, by the rubric); `finish` ends the session. A quote must occur
        in the turn. Raises InvalidInput."""
        target = target_of(item.turns, turn, self.rubric.form.on)
        shown = session_lines(item.session.turns_json)
        if quote and not supported([(turn, quote)], shown.texts)[0]:
            raise InvalidInput(f"turn {turn} does not have the words {quote!r:.80}")
        more: dict[str, Any] = {"target": target, "turn": turn, "quote": quote or None}
        return write(self.store, item.trajectory, self.rubric, self.annotator, value, score, rationale, **more)

    def finish(self, item: Item) -> str:
        """Ends a session whose parts were labelled: writes how many labels there are, and returns the record's id."""
        t = self.store.trajectory(item.trajectory)
        mine = [one for one in current(t.labels) if self._is_mine(one) and turn_of(one) is not None]
        scores = [one.score for one in mine if isinstance(one.score, float)]
        score = math.fsum(scores) / len(scores) if scores else None
        made = _written(self.store, t, self.rubric, self.annotator, str(len(mine)), score)
        self._gave(item, made)
        return made

    def _gave(self, item: Item, record: str) -> None:
        self._given.append(Given(item.trajectory, record))
        self._done.add(item.trajectory)
        if self._waiting and self._waiting[-1] == item.trajectory:
            self._waiting.pop()

    def skip(self, item: Item) -> None:
        """Leaves an item for later: it comes again when all others are done, or when the queue is opened again."""
        if self._waiting and self._waiting[-1] == item.trajectory:
            self._skipped.append(self._waiting.pop())

    def undo(self) -> bool:
        """Takes back the last label of this queue; its item is next. False: there is none."""
        if not self._given:
            return False
        last = self._given.pop()
        take_back(self.store, last.trajectory, last.record)
        self._done.discard(last.trajectory)
        self._waiting.append(last.trajectory)
        return True

    def _is_mine(self, record: LabelRecord) -> bool:
        return (record.author, record.rubric_hash) == (self.annotator, self.rubric.version) and is_by_person(record)


def write(
    store: LabelStore,
    trajectory: str,
    rubric: Rubric,
    author: str,
    value: str = "",
    score: float | None = None,
    rationale: str | None = None,
    *,
    target: str | None = None,
    turn: int | None = None,
    quote: str | None = None,
) -> str:
    """Appends a person's label to a trajectory, and returns the record's id. The score is in the rubric's range.

    An earlier label of the same person by the same rubric is superseded; the same label again writes nothing. Raises InvalidInput
    for what the rubric does not allow, NotFound.
    """
    form = rubric.form
    if not value and form.values:
        raise InvalidInput(f"the label has no value; the values are: {', '.join(form.values)}")
    if score is None and not form.values:
        raise InvalidInput(f"a label has a score from {form.low:g} to {form.high:g}")
    value, share = form.fitted(value, score)
    if share is not None and not 0 <= share <= 1:
        raise InvalidInput(f"the score is {score}; it is a number from {form.low:g} to {form.high:g}")
    t = store.trajectory(trajectory)
    return _written(store, t, rubric, author, value, share, rationale, target=target, turn=turn, quote=quote)


def _written(
    store: LabelStore,
    t: Recorded,
    rubric: Rubric,
    author: str,
    value: str,
    share: float | None,
    rationale: str | None = None,
    *,
    target: str | None = None,
    turn: int | None = None,
    quote: str | None = None,
) -> str:
    place = (author, rubric.version, target, turn, quote)
    before: LabelRecord | None = None
    for one in current(t.labels):
        if is_by_person(one) and (one.author, one.rubric_hash, one.target, turn_of(one), quote_of(one)) == place:
            before = one
    if before is not None and (before.value or "", before.score, before.rationale or None) == (value, share, rationale or None):
        return before.id
    about = {"turn": turn, "quote": quote}
    found: str = store.append(t.id).label(
        rubric.technique,
        value,
        score=share,
        description=rubric.description,
        rationale=rationale or None,
        author=author,
        rubric_hash=rubric.version,
        target=target,
        supersedes=before.id if before is not None else None,
        extra={"source": "human"} | {k: v for k, v in about.items() if v is not None},
    )
    return found


def take_back(store: LabelStore, trajectory: str, record: str) -> None:
    """Takes a label back: a record without value and score supersedes it. Raises NotFound."""
    t = store.trajectory(trajectory)
    old = next((one for one in t.labels if one.id == record), None)
    if old is None:
        raise NotFound(f"trajectory {trajectory} has no label {record!r}")
    store.append(t.id).label(
        old.technique, author=old.author, rubric_hash=old.rubric_hash, target=old.target, supersedes=old.id, extra=old.extra
    )


# --- files of labels ------------------------------------------------------------------------------------------------------


def to_csv(store: LabelStore, rubric: Rubric | None = None, **filters: Unpack[FilterArgs]) -> str:
    """The labels of trajectories as CSV, those of judges and those of people. `rubric`: those of its technique only."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for t in store.trajectories(**filters):
        for one in current(t.labels):
            if rubric is not None and one.technique != rubric.technique:
                continue
            source = "human" if is_by_person(one) else "judge"
            score = "" if not isinstance(one.score, (int, float)) else repr(float(one.score))
            value = (
                one.value if isinstance(one.value, str) else "" if one.value is None else msgspec.json.encode(one.value).decode()
            )
            texts = (value, score, one.rationale or "", one.author or "", source, one.rubric_hash or "", one.target or "")
            rows.writerow([t.id, *map(_inert, (one.technique, *texts)), turn_of(one) or "", _inert(quote_of(one) or "")])
    return out.getvalue()


def _inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: what begins like one, and is no number, gets an apostrophe."""
    return f"'{text}" if text.lstrip("'")[:1] in _FORMULA and not _NUMBER.fullmatch(text) else text


def _as_was(cell: str) -> str:
    """What a cell of `_inert` was."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'")[:1] in _FORMULA else cell


class Taken(msgspec.Struct, kw_only=True):
    """What a file of labels brought: labels written, and rows that the store had already."""

    labels: int = 0
    unchanged: int = 0
    #: Rows that were not taken: of a judge, of another technique or version of the rubric.
    skipped: int = 0


def from_csv(store: LabelStore, rubric: Rubric, text: str, author: str | None = None) -> Taken:
    """Takes people's labels from CSV: the columns `trajectory`, `value` or `score`, and where they are known `rationale`,
    `author`, `technique`, `source`, `rubric`, `target`, `turn`, `quote`. `author`: who labelled, for rows that don't say it.
    Cells are separated by commas, or by the semicolons or tabs that some spreadsheets write.

    All rows are checked before one is written. A score is a share from 0 to 1, as `to_csv` writes it. Raises InvalidInput with
    the line, NotFound.
    """
    report, separator, given = Taken(), *_rows(text)
    taken: list[tuple[str, str, str, float | None, str | None, str | None, int | None, str | None]] = []
    said: dict[tuple[Any, ...], tuple[int, Any]] = {}
    for line, cell in given:
        if (cell["technique"] or rubric.technique) != rubric.technique or cell["source"] == "judge":
            report.skipped += 1
            continue
        if (cell["rubric"] or rubric.version) != rubric.version:
            report.skipped += 1
            continue
        who = cell["author"] or author
        if not who:
            raise InvalidInput(f"line {line}: nobody is named who labelled; give the file a column author, or name an annotator")
        try:
            number = cell["score"].replace(",", ".") if separator == ";" else cell["score"]
            score = float(number) if number else None
        except ValueError:
            raise InvalidInput(f"line {line}: the score is {cell['score']!r}, no number") from None
        if score is not None and not 0 <= score <= 1:
            raise InvalidInput(f"line {line}: the score is {score:g}; in a file, a score is a share from 0 to 1")
        form = rubric.form
        raw = None if score is None or form.scores else form.low + score * (form.high - form.low)
        try:
            if not cell["value"] and form.values:
                raise InvalidInput(f"the label has no value; the values are: {', '.join(form.values)}")
            if raw is None and not form.values:
                raise InvalidInput("it has no score")
            form.fitted(cell["value"], raw)
            id = store.trajectory(cell["trajectory"]).id
        except (InvalidInput, NotFound) as error:
            raise InvalidInput(f"line {line}: {error}") from None
        if cell["turn"] and not cell["turn"].isdecimal():
            raise InvalidInput(f"line {line}: the turn is {cell['turn']!r}, no number")
        turn = int(cell["turn"]) if cell["turn"] else None
        before, same = said.setdefault((id, who, cell["target"], turn, cell["quote"]), (line, (cell["value"], score)))
        if same != (cell["value"], score):
            raise InvalidInput(f"line {line}: line {before} has another label of the same by {who}")
        taken.append(
            (id, who, cell["value"], raw, cell["rationale"] or None, cell["target"] or None, turn, cell["quote"] or None)
        )
    for id, who, value, raw, rationale, target, turn, quote in taken:
        known = {one.id for one in store.trajectory(id).labels}
        is_new = write(store, id, rubric, who, value, raw, rationale, target=target, turn=turn, quote=quote) not in known
        report.labels, report.unchanged = report.labels + is_new, report.unchanged + (not is_new)
    return report


def _rows(text: str) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """What separates the cells, and the rows: their lines and cells by column. Raises InvalidInput."""
    text = text.removeprefix("\ufeff")
    longest = csv.field_size_limit(1 << 30)
    try:
        for separator in ",;\t":
            given = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            lines = [(given.line_num, [_as_was(cell.strip()) for cell in row]) for row in given if any(row)]
            if lines and lines[0][1][0].startswith("sep="):  # as some spreadsheets begin
                del lines[0]
            names = [name.lower() for name in lines[0][1]] if lines else []
            if "trajectory" in names:
                break
    except csv.Error as error:
        raise InvalidInput(f"a file of labels is CSV: {error}") from None
    finally:
        csv.field_size_limit(longest)
    if "trajectory" not in names or not {"value", "score"} & set(names):
        there = ", ".join(names) or "none"
        raise InvalidInput(f"a file of labels has the columns trajectory, and value or score; found {there:.200}")
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise InvalidInput(f"a file of labels has each column once; found {twice[0]} twice")
    empty = dict.fromkeys(COLUMNS, "")
    return separator, [(line, {**empty, **dict(zip(names, row, strict=False))}) for line, row in lines[1:]]
