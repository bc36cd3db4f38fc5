"""Reading a store that is served elsewhere: the questions of a `Reader`, which the server's reader answers.

What a trajectory is comes as the lines that were written, so it is the same here as there. Knows no HTTP; both ends use it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import msgspec

from ..codec import check_version, encode
from ..errors import InvalidInput, NotFound
from ..trajectory import Trajectory
from .catalog import Catalog
from .columnar import Columns
from .figures import Figures
from .filters import EVERY, Filters
from .lake import Lake
from .reader import Reader, assembled
from .remote import Line, Unreached
from .source import Raw
from .summary import Facts, Summary
from .tailing import Tail

_Answer = TypeVar("_Answer")
_TOGETHER = 16  # trajectories that one request asks for
_PAGE = 100  # summaries in one frame


def _types(method: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
    hints = get_type_hints(method)
    answer = hints.pop("return")
    return tuple(kind for name, kind in hints.items() if name != "progress"), answer


#: What a reader is asked, by the name of its method: the types of the arguments, and of the answer.
QUESTIONS: dict[str, tuple[tuple[Any, ...], Any]] = {
    name: _types(method) for name, method in vars(Reader).items() if hasattr(method, "is_question")
}


class Head(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A trajectory begins: its whole id, and the writers that may go on."""

    id: str
    alive: set[str]


class Part(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Lines of the trajectory."""

    writer: str
    version: int
    data: bytes


_frame = msgspec.msgpack.Decoder(Head | Part)
_figures = msgspec.json.Decoder(Figures)
_summaries = msgspec.json.Decoder(list[Summary])


def answered(reader: Reader, name: str, given: Any, base: Filters = EVERY) -> bytes:
    """The answer to a question as JSON. `base`: filters that hold where a question has none. Raises InvalidInput, NotFound."""
    kinds = QUESTIONS[name][0]
    if not isinstance(given, list) or len(given) != len(kinds):
        raise InvalidInput(f"{name} is asked with a list of {len(kinds)} values")
    values = [_filters(one, base) if kind is Filters else _converted(one, kind) for one, kind in zip(given, kinds, strict=True)]
    try:
        found = getattr(reader, name)(*values)
    except OverflowError:
        raise InvalidInput("a number has at most 64 bits") from None
    return encode(msgspec.to_builtins(found))


def frames(reader: Reader, name: str, given: Any, base: Filters = EVERY) -> Iterator[bytes]:
    """The answer to `summaries`, `figures` or `read`, in frames."""
    if name == "summaries":
        filters, newest = given if isinstance(given, list) and len(given) == 2 else (None, None)
        found = reader.summaries(_filters(filters, base), newest_first=_converted(newest, bool))
        while page := list(islice(found, _PAGE)):
            yield encode(msgspec.to_builtins(page))
        return
    if name == "figures":
        filters, by = given if isinstance(given, list) and len(given) == 2 else (None, None)
        for some in reader.figures(_filters(filters, base), _converted(by, str | None)):
            yield encode(msgspec.to_builtins(some))
        return
    ids, find = given if isinstance(given, list) and len(given) == 2 else (None, None)
    for id, raw, alive in reader.raw(_converted(ids, list[str]), find=_converted(find, bool)):
        yield msgspec.msgpack.encode(Head(id, alive))
        for writer, version, data in raw:
            yield msgspec.msgpack.encode(Part(writer, version, data))


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a question that can't be read: {error}") from None


def _filters(given: Any, base: Filters) -> Filters:
    """Filters as they were sent: checked already, by whoever sent them, and checked here."""
    sent = _converted(given, Filters)
    times, sent = sent.time_range, msgspec.structs.replace(sent, time_range=None)
    if times is not None and any(end is not None and not -(2**63) <= end < 2**63 for end in times):
        raise InvalidInput("a time has at most 64 bits")
    found = Filters.of({k: v for k, v in msgspec.structs.asdict(sent).items() if v is not None})
    found = msgspec.structs.replace(found, time_range=times)
    return Filters(
        **{name: getattr(base, name) if value is None else value for name, value in msgspec.structs.asdict(found).items()}
    )


class Asked(Reader):
    """The reader of a store that is served elsewhere.

    `before` is called before each question: what this process recorded is at the server then. `here`: the folder of what is not
    there yet, from which late records of this machine's runs are placed while nobody answers.
    """

    def __init__(self, line: Line, before: Callable[[], None], here: Path) -> None:
        self._line = line
        self._ready = before
        self._here = here
        self._local: Reader | None = None

    def _ask(self, name: str, *values: Any) -> Any:
        self._ready()
        found = self._line.post("read", name, body=encode([msgspec.to_builtins(one) for one in values]))
        with self._line.understood():
            return msgspec.convert(found, QUESTIONS[name][1])

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidInput(f"{what} is done on the machine that serves {self._line}")

    @property
    def catalog(self) -> Catalog:
        """There is none here. Raises InvalidInput."""
        self._refuse("reading with SQL or as a frame")

    @property
    def lake(self) -> Lake:  # type: ignore[override]
        """There is none here. Raises InvalidInput."""
        self._refuse("reading with SQL or as a frame")

    def look(self) -> None:
        self._ready()

    def close(self) -> None:
        if self._local is not None:
            self._local.close()
            self._local = None

    # --- trajectories -------------------------------------------------------------------------------------------------

    def known(self, id: str) -> Trajectory | None:
        self._ready()
        return next(self._trajectories([id]), None)

    def look_at(self, id: str, look: Callable[[Iterator[Raw]], _Answer]) -> _Answer:
        self._ready()
        return look(one for _, raw, _ in self.raw([id]) for one in raw)

    def trajectory(self, id: str) -> Trajectory:
        self._ready()
        found = next(self._trajectories([id], find=True), None)
        if found is None:
            raise NotFound(f"trajectory {id!r} has no readable record")
        return found

    def read(self, ids: Iterable[str]) -> Iterator[Trajectory]:
        rest = iter(ids)
        while some := list(islice(rest, _TOGETHER)):
            yield from self._trajectories(some)

    def raw(self, ids: Iterable[str], *, find: bool = False) -> Iterator[tuple[str, list[Raw], set[str]]]:
        head: Head | None = None
        raw: list[Raw] = []
        for data in self._line.stream("read", "read", body=[list(ids), find]):
            with self._line.understood():
                frame = _frame.decode(data)
            if isinstance(frame, Part):
                check_version(frame.version, f"the store at {self._line}")
                raw.append((frame.writer, frame.version, frame.data))
                continue
            if head is not None:
                yield head.id, raw, head.alive
            head, raw = frame, []
        if head is not None:
            yield head.id, raw, head.alive

    def _trajectories(self, ids: list[str], *, find: bool = False) -> Iterator[Trajectory]:
        for id, raw, alive in self.raw(ids, find=find):
            with suppress(NotFound):  # damage took all of its records
                found = assembled(id, raw, lambda alive=alive: alive)  # type: ignore[misc]
                found.beside = self.trajectory
                yield found

    def writers(self, id: str) -> set[str]:
        alive = self.alive()
        return {r.writer for r in self.trajectory(id).records if r.writer in alive}

    def facts(self, id: str) -> tuple[str, Facts]:
        try:
            found: tuple[str, Facts] = self._ask("facts", id)
            return found
        except Unreached:
            if self._local is None:
                self._local = Reader(self._here)
            with suppress(NotFound):
                return self._local.facts(id)
            raise

    # --- lists --------------------------------------------------------------------------------------------------------

    def summaries(self, filters: Filters = EVERY, *, newest_first: bool = False) -> Iterator[Summary]:
        self._ready()
        for data in self._line.stream("read", "summaries", body=[msgspec.to_builtins(filters), newest_first]):
            with self._line.understood():
                found = _summaries.decode(data)
            yield from found

    def figures(self, filters: Filters = EVERY, by: str | None = None) -> Iterator[Figures]:
        self._ready()
        for data in self._line.stream("read", "figures", body=[msgspec.to_builtins(filters), by]):
            with self._line.understood():
                found = _figures.decode(data)
            yield found

    def columns(self) -> Columns | None:
        return None

    def tail(self, count: int, trajectory: str | None) -> Tail:
        self._refuse("following records")


def _asking(name: str) -> Callable[..., Any]:
    """The method that sends a question away, with the arguments of the reader's own."""
    own = getattr(Reader, name)
    signature = inspect.signature(own)

    @wraps(own)
    def ask(self: Asked, *args: Any, **named: Any) -> Any:
        given = signature.bind(self, *args, **named)
        given.apply_defaults()
        return self._ask(name, *(value for key, value in given.arguments.items() if key not in ("self", "progress")))

    return ask


for _name in QUESTIONS:
    if _name not in vars(Asked):
        setattr(Asked, _name, _asking(_name))
