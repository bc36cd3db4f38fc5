"""Work over a store on a Ray cluster: actors reopen the store, read the trajectories that they are told of, and send results.

Knows nothing of the work. What only this machine has is worked on here: trajectories that are not sealed yet, and those that an
actor does not find.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, get_args

from .errors import InvalidInput, MissingExtra, OdographError, described, did_you_mean
from .processes import Work, script_of, sendable, stand_in
from .store.backend import Place
from .store.opening import reopened
from .store.reader import Reader
from .trajectory import Trajectory

#: Where work may be done.
Runner = Literal["processes", "ray"]
RUNNERS: tuple[Runner, ...] = get_args(Runner)
_READ = 16  # trajectories that an actor reads at once
_AHEAD = 2  # batches per actor that are under way, or done and waiting for those before them
_CPUS = 64  # actors at most


def check_runner(runner: Runner | None) -> None:
    """Raises InvalidInput unless a runner exists; None stands for the default."""
    if runner is not None and runner not in RUNNERS:
        raise InvalidInput(f"no runner {runner!r}; there are: {', '.join(RUNNERS)}{did_you_mean(str(runner), RUNNERS)}")


def started(doing: str) -> Any:
    """The module ray, with a cluster that is connected: one is started on this machine where none runs. `doing` names what
    needs it. Raises MissingExtra, OdographError where Ray can't start."""
    try:
        import ray
    except ImportError:
        raise MissingExtra(doing, "ray") from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False)
        except Exception as error:
            ray.shutdown()  # what started of it
            why = " ".join(described(error).split())
            raise OdographError(f"Ray can't start, so nothing was begun: {why}; set RAY_ADDRESS to a cluster that runs") from None
    return ray


def over(
    place: Place, reader: Reader, begin: Callable[..., Work], about: Sequence[Any], ids: Iterable[str], *, batch: int, doing: str
) -> Generator[list[Any], None, None]:
    """What the work gives for each batch of ids, in their order, from an actor per CPU of the cluster.

    `begin(*about)` makes the work in each actor; the work gives a list. `reader` reads what this machine alone has. `doing` says
    in a sentence about an error what an actor did. At most a few batches per actor are under way at once. Raises MissingExtra,
    NotSendable for what can't be sent, OdographError where Ray can't start, an actor died or the work raised.
    """
    sent = sendable((begin, about))
    ray = started("work on a Ray cluster")
    rest = iter(ids)
    first = list(islice(rest, batch))
    mine = set(reader.catalog.unsealed()) if place.tables is not None else set[str]()
    here: list[Work] = []

    def local(some: list[str]) -> list[Any]:
        if some and not here:
            here.append(begin(*about))
        return here[0](reader, some) if some else []

    def batches() -> Iterator[list[str]]:
        some = first
        while some:
            yield some
            some = list(islice(rest, batch))

    kind = ray.remote(num_cpus=1)(Actor)
    actors: list[Any] = []
    pending: deque[tuple[Any, list[str]]] = deque()
    count = max(1, min(_CPUS, int(ray.cluster_resources().get("CPU", 1))))
    try:
        for number, some in enumerate(batches()):
            if len(actors) < count:
                actors.append(kind.remote(place, sent, script_of(sent)))
            theirs = [id for id in some if id not in mine]
            pending.append((actors[number % count].work.remote(theirs), [id for id in some if id in mine]))
            if len(pending) >= _AHEAD * count:
                yield _answer(pending.popleft(), local, doing)
        while pending:
            yield _answer(pending.popleft(), local, doing)
    finally:
        for actor in actors:
            ray.kill(actor)


def _answer(asked: tuple[Any, list[str]], local: Callable[[list[str]], list[Any]], doing: str) -> list[Any]:
    """The result of a batch, with what is done here."""
    import ray

    answer, mine = asked
    try:
        result, missing, failed = ray.get(answer)
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()
        raise OdographError(
            f"an actor that {doing} died: {type(error).__name__}{f': {why[0]}' if why else ''}; its earlier results are kept"
        ) from None
    if failed is not None:
        raise OdographError(f"an actor that {doing} failed: {failed}")
    return [*result, *local([*missing, *mine])]


class Actor:
    """The work on a machine of the cluster: a batch at a time."""

    def __init__(self, place: Place, sent: bytes, script: str | None) -> None:
        self._given = place, sent, script
        self._made: tuple[Work, Reader] | None = None

    def work(self, ids: list[str]) -> tuple[list[Any], list[str], str | None]:
        """The results, the ids that are not there, and what failed."""
        try:
            if self._made is None:
                place, sent, script = self._given
                if script is not None:
                    stand_in(script)
                begin, about = pickle.loads(sent)
                self._made = begin(*about), reopened(place).reader
            work, reader = self._made
            there = set(reader.there(ids))
            found = [id for id in ids if id in there]
            return (work(reader, found) if found else []), [id for id in ids if id not in there], None
        except Exception as error:
            return [], [], described(error)


def trajectories(place: Place, reader: Reader, ids: Iterable[str]) -> Iterator[Trajectory]:
    """The trajectories with these ids, in their order, read and decoded by the actors."""
    order: dict[str, int] = {}

    def numbered() -> Iterator[str]:
        for number, id in enumerate(ids):
            order[id] = number
            yield id

    for some in over(place, reader, _reading, (), numbered(), batch=_READ, doing="read trajectories"):
        for found in sorted(some, key=lambda one: order.pop(one.id)):
            found.beside = reader.trajectory
            yield found


def _reading() -> Work:

    def work(reader: Reader, ids: list[str]) -> list[Any]:
        found = list(reader.read(ids))
        for one in found:
            one.beside = None
        return found

    return work
