"""The filters of `store.trajectories`: one list of names, meanings and checks. Knows no engine; each engine translates `Filters`.

From this list come the signatures (`FilterArgs`), the flags of the command line and the table in the documentation.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self, TypedDict, cast, get_args

import msgspec

from ..clock import parse_span, parse_time
from ..errors import InvalidInput, did_you_mean
from ..types import Status

#: What a trajectory's status can be: how it ended, or that it has not.
State = Status | Literal["running", "unterminated"]
STATES: tuple[str, ...] = tuple(state for states in get_args(State) for state in get_args(states))

Texts = str | list[str] | tuple[str, ...] | set[str] | frozenset[str]
Moment = str | int | float | None


class FilterArgs(TypedDict, total=False):
    """The filters of `store.trajectories` as keywords, for signatures: `def mine(**filters: Unpack[odograph.FilterArgs])`.

    A trajectory is chosen where all filters hold; None is no filter. The documentation of the command line has a table of them.
    """

    ids: Texts | None
    group: str | None
    agent: str | None
    model: str | None
    tag: Texts | None
    status: State | Collection[State] | None
    policy_version: str | int | None
    min_reward: float | None
    max_reward: float | None
    time_range: str | tuple[Moment, Moment] | None
    task_id: Texts | None
    text: str | None
    limit: int | None


def _doc(text: str, **flags: str) -> msgspec.Meta:
    """The description of a filter: what it chooses, and its flags on the command line, if these are not one flag of its name."""
    return msgspec.Meta(description=text, extra={"flags": flags})


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Checked filters, made by `Filters.of` from `FilterArgs`. None: no filter."""

    ids: Annotated[tuple[str, ...] | None, _doc("trajectories with these ids; a unique prefix or suffix of an id is enough")] = (
        None
    )
    group: Annotated[str | None, _doc("trajectories of this group")] = None
    agent: Annotated[str | None, _doc("trajectories of this agent")] = None
    model: Annotated[str | None, _doc("trajectories of this model")] = None
    tag: Annotated[tuple[str, ...] | None, _doc("trajectories with this tag; given several tags, with all of them")] = None
    status: Annotated[
        tuple[str, ...] | None, _doc(f"trajectories with this status ({', '.join(STATES)}); given several, with any of them")
    ] = None
    policy_version: Annotated[str | int | None, _doc("trajectories of this policy version; 3 and '3' are the same version")] = (
        None
    )
    min_reward: Annotated[float | None, _doc("trajectories with a known reward of at least this number")] = None
    max_reward: Annotated[float | None, _doc("trajectories with a known reward of at most this number")] = None
    #: Nanoseconds: from the first on, before the second; None is no bound.
    time_range: Annotated[
        tuple[int | None, int | None] | None,
        _doc(
            "trajectories that started within the last '7d' (any length of time), or between two times (a pair"
            " of ISO times; None is open); a session of unknown time is in no time range",
            since="trajectories that started at or after this ISO time, or within this length of time until now, such as 7d",
            until="trajectories that started before this ISO time",
        ),
    ] = None
    task_id: Annotated[
        tuple[str, ...] | None, _doc("trajectories of the task with this id; given several ids, of any of them")
    ] = None
    text: Annotated[str | None, _doc("trajectories that contain all these words; quoted words are a phrase")] = None
    limit: Annotated[int | None, _doc("at most this many trajectories: the first of the list")] = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Checks filters. Raises TypeError for a name that no filter has, InvalidInput for a value that can't be meant."""
        for name in given:
            if name not in FILTERS:
                raise TypeError(f"no filter {name!r}; there are: {', '.join(FILTERS)}{did_you_mean(name, FILTERS)}")
        return cls(**{name: _CHECKS[name](name, value) for name, value in given.items() if value is not None})


#: The names of the filters.
FILTERS: tuple[str, ...] = Filters.__struct_fields__
#: No filter at all.
EVERY = Filters()


def given(filters: FilterArgs) -> FilterArgs:
    """The filters that are not None."""
    return cast(FilterArgs, {name: value for name, value in filters.items() if value is not None})


class Described(NamedTuple):
    """A filter for people: its name, the type of its value (`list` for one text or several), and what it chooses."""

    name: str
    kind: type
    text: str
    #: The flags on the command line, each with its text, if these are not one flag of the filter's name.
    flags: dict[str, str]


def described() -> list[Described]:
    """The filters by name, each with its type and description."""
    found: list[Described] = []
    for field in msgspec.structs.fields(Filters):
        kinds, (meta,) = get_args(field.type.__origin__), field.type.__metadata__
        kind = list if kinds[0] == tuple[str, ...] else kinds[0]
        found.append(Described(field.name, kind, meta.description, meta.extra["flags"]))
    return found


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidInput(f"{name} is a text, not {given!r}")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is a text of Unicode characters, not {given!r}") from None
    return given


def _texts(name: str, given: Any) -> tuple[str, ...]:
    """One text, or a list of texts."""
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in several):
        raise InvalidInput(f"{name} is a text or a list of texts, not {given!r}")
    return tuple(_text(name, one) for one in several)


def _states(name: str, given: Any) -> tuple[str, ...]:
    states = _texts(name, given)
    for one in states:
        if one not in STATES:
            raise InvalidInput(f"no status {one!r}; there are: {', '.join(STATES)}{did_you_mean(one, STATES)}")
    return states


def _version(name: str, given: Any) -> str | int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InvalidInput(f"{name} is a text or a whole number, not {given!r}")
    return _text(name, given) if isinstance(given, str) else given


def _number(name: str, given: Any) -> float:
    try:
        if isinstance(given, int | float) and not isinstance(given, bool) and given == given:
            return float(given)
    except OverflowError:  # a whole number beyond all floats
        pass
    raise InvalidInput(f"{name} is a number, not {given!r}")


def _limit(name: str, given: Any) -> int:
    if type(given) is not int or given < 0:
        raise InvalidInput(f"a limit is a whole number from 0, not {given!r}")
    return given


def _range(name: str, given: Any) -> tuple[int | None, int | None]:
    if isinstance(given, str):
        return _held(time.time_ns() - parse_span(given)), None
    try:
        low, high = given
    except (TypeError, ValueError):
        raise InvalidInput(f"a time range is a length such as '7d' or a pair (from, to), not {given!r}") from None
    ends: list[int | None] = []
    for end in (low, high):
        parsed = parse_time(end)
        if end is not None and parsed is None:
            raise InvalidInput(f"{end!r} is no time; write a time as 2026-01-31 or 2026-01-31T12:00:00Z")
        ends.append(_held(parsed) if parsed is not None else None)
    return ends[0], ends[1]


def _held(when: int) -> int:
    """A time in 64 bits, 1677 to 2262: what lies beyond is beyond all that was recorded."""
    return max(-(2**63), min(2**63 - 1, when))


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "ids": _texts,
    "group": _text,
    "agent": _text,
    "model": _text,
    "tag": _texts,
    "status": _states,
    "policy_version": _version,
    "min_reward": _number,
    "max_reward": _number,
    "time_range": _range,
    "task_id": _texts,
    "text": _text,
    "limit": _limit,
}
