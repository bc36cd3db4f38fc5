"""What entities are made of: components, whose fields become columns `classname__field`, and the three of trajectory analysis.

A component is a class with annotated fields and defaults, as a dataclass has them. Fields are str, int, float, bool, or lists of
str, int or float: what a column can hold exactly. Other values go in as JSON text, as `Trajectory.turns_json` shows.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import typing
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from ..errors import InvalidInput
from ..tables.schema import Column, Encoding, Type

T = TypeVar("T", bound="Component")

_TYPES: dict[Any, Type] = {
    str: "text",
    int: "int",
    float: "double",
    bool: "bool",
    list[str]: "texts",
    list[int]: "ints",
    list[float]: "doubles",
}
_EXACT: dict[str, type] = {"text": str, "double": float, "bool": bool}
#: Columns that every row has, and names that no field may have beside.
BASE = ("world_id", "run_id", "entity_id", "tick", "is_active")
_RESERVED = ("type",)


@dataclass_transform(kw_only_default=True)
class Component:
    """Base class of components. Subclasses annotate their fields; every field needs a default.

        class Mood(Component):
            name: str = ""
            score: float = 0.0

    The columns are `mood__name` and `mood__score`. `class Note(Component, shared=("text",))` names text fields that are long or
    that many entities have in common: Odograph stores such a text once, by its content.
    """

    _prefix: ClassVar[str]
    _shared: ClassVar[tuple[str, ...]] = ()
    _columns: ClassVar[dict[str, Column]]
    _listed: ClassVar[tuple[Column, ...]]
    _hashed: ClassVar[tuple[int, ...]]
    _words: ClassVar[dict[str, tuple[Any, ...]]]  # of fields of `Literal` words
    _exact: ClassVar[tuple[type, ...]]  # what most values are, which needs no closer look

    def __init_subclass__(cls, *, shared: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        try:
            hints = get_type_hints(cls)
        except NameError as error:
            raise TypeError(f"{cls.__name__}: the type of a field can't be found: {error}") from None
        for name in inspect.get_annotations(cls):
            value = cls.__dict__.get(name)
            if typing.get_origin(hints[name]) is not ClassVar:
                _type_of(f"{cls.__name__}.{name}", hints[name])
            if isinstance(value, list):  # as other libraries allow; each component gets a list of its own
                setattr(cls, name, dataclasses.field(default_factory=functools.partial(list, value)))
        dataclasses.dataclass(kw_only=True)(cls)
        cls._prefix = cls.__name__.lower()
        if "__" in cls._prefix or not cls._prefix.isidentifier():
            raise TypeError(f"the name of a component is a word without '__', not {cls.__name__!r}")
        cls._shared = (*cls._shared, *shared)
        cls._columns = {}
        for field in dataclasses.fields(typing.cast(Any, cls)):
            if field.name in _RESERVED or "__" in field.name or field.name.startswith("_"):
                raise TypeError(
                    f"{cls.__name__}.{field.name}: a field may not be named so; 'type' is reserved, '__' parts columns"
                )
            kind = _type_of(f"{cls.__name__}.{field.name}", hints[field.name])
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise TypeError(f"{cls.__name__}.{field.name} needs a default")
            encoding: Encoding = "names" if kind in ("text", "texts") else "plain"
            if field.name in cls._shared:
                if kind != "text":
                    raise TypeError(f"{cls.__name__}.{field.name}: only a str field can be shared")
                encoding = "shared"
            doc = f"{field.name} of the component {cls.__name__}."
            cls._columns[field.name] = Column(f"{cls._prefix}__{field.name}", kind, doc, encoding)
        cls._words = {name: words for name in cls._columns if (words := _words_of(hints[name]))}
        cls._exact = tuple(object if name in cls._words else _EXACT.get(c.type, object) for name, c in cls._columns.items())
        cls._listed = tuple(cls._columns.values())
        cls._hashed = tuple(n for n, column in enumerate(cls._listed) if column.encoding == "shared")
        unknown = set(cls._shared) - cls._columns.keys()
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {sorted(unknown)[0]!r} to share")

    def __init__(self, **fields: Any) -> None: ...  # the dataclass decorator gives the real one

    def _values(self) -> list[Any]:
        """The component's values, in the order of its columns. Raises InvalidInput where a value is not of its field's type."""
        fields = self.__dict__
        found: list[Any] = [fields[name] for name in self._columns]
        for n, exact in enumerate(self._exact):
            value, kind = found[n], type(found[n])
            if kind is not exact or (exact is str and not value.isascii()):
                name, column = list(self._columns.items())[n]
                found[n] = _checked(f"{type(self).__name__}.{name}", value, column.type)
                words = self._words.get(name)
                if words and found[n] is not None and found[n] not in words:
                    known = ", ".join(map(repr, words))
                    raise InvalidInput(f"{type(self).__name__}.{name} is one of {known}, not {found[n]!r:.100}")
        return found


def prefix_of(kind: type[Component]) -> str:
    """What the columns of a component's fields begin with."""
    return kind._prefix


def columns_of(kind: type[Component]) -> tuple[Column, ...]:
    """The columns of a component."""
    return kind._listed


def shared_of(kind: type[Component]) -> tuple[int, ...]:
    """Which of a component's columns hold hashes of texts."""
    return kind._hashed


def values_of(component: Component) -> list[Any]:
    """A component's values in the order of its columns. Raises InvalidInput where a value is not of its field's type."""
    return component._values()


def component_of(kind: type[T], row: dict[str, Any]) -> T:
    """The component of a row; columns that the row does not have, or that are null, get their defaults."""
    return kind(**{name: row[column.name] for name, column in kind._columns.items() if row.get(column.name) is not None})


def _type_of(where: str, hint: Any) -> Type:
    kind = _TYPES.get(_bare(hint))
    if kind is None:
        known = "str, int, float, bool, list[str], list[int] and list[float]"
        raise TypeError(f"{where}: a field's type is one of {known}, not {hint!r}; put other values in as JSON text")
    return kind


def _bare(hint: Any) -> Any:
    """The type of a hint that allows None: a column always may be null. Of listed words, and of an enum of texts or numbers, the
    type of their values."""
    kinds = {type(value) for value in typing.get_args(hint)} if typing.get_origin(hint) is typing.Literal else set[type]()
    if len(kinds) == 1:
        return kinds.pop()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next((kind for kind in (str, int) if all(isinstance(one.value, kind) for one in hint)), hint)
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    origin = typing.get_origin(hint)
    if origin is list and len(arguments) == 1:  # typing.List[str], too
        return list[arguments[0]]  # type: ignore[valid-type]
    return _bare(arguments[0]) if len(arguments) == 1 and len(typing.get_args(hint)) == 2 else hint


def _words_of(hint: Any) -> tuple[Any, ...]:
    """The listed words of a hint; none where it lists none."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next((words for one in typing.get_args(hint) if (words := _words_of(one))), ())


def _checked(where: str, value: Any, kind: Type) -> Any:
    if value is None:
        return None
    if isinstance(value, enum.Enum):
        value = value.value
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():  # what computing gave
        value = value.item()
    given: Any = value
    expected: dict[str, tuple[type, ...]] = {"text": (str,), "int": (int,), "double": (int, float), "bool": (bool,)}
    if kind in expected:
        if not isinstance(given, expected[kind]) or (isinstance(given, bool) and kind != "bool"):
            raise InvalidInput(f"{where} is {kind}, not {value!r:.100}")
        if kind == "double":
            return float(value)
        if kind == "int" and not -(1 << 63) <= value < 1 << 63:
            raise InvalidInput(f"{where} has 64 bits; {value!r:.100} has more")
        if kind == "text":
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InvalidInput(f"{where} is text that UTF-8 can hold, not {value!r:.100}") from None
            return str.__str__(value)  # of a member of an enum, its value
        return int(value) if kind == "int" else value
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"{where} is a list, not {value!r:.100}")
    inner: dict[str, Type] = {"texts": "text", "ints": "int", "doubles": "double"}
    return [_checked(where, item, inner[kind]) for item in value]


@dataclasses.dataclass
class Turn:
    """One turn of a session: what was said, or a tool's call or result. Times are milliseconds."""

    role: str
    content: str = ""
    tool_name: str | None = None
    tool_input: str | None = None
    tool_output: str | None = None
    tokens: int = 0
    duration_ms: float = 0.0
    error: str | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


class Trajectory(Component, shared=("turns_json", "metadata_json")):
    """A recorded session, to be labelled. `turns_json`, `tags_json` and `metadata_json` are JSON text."""

    trajectory_id: str = ""
    source: str = ""
    turns_json: str = "[]"
    total_turns: int = 0
    total_tokens: int = 0
    duration_seconds: float = 0.0
    outcome: str = ""
    tags_json: str = "[]"
    metadata_json: str = "{}"

    @classmethod
    def from_turns(
        cls,
        trajectory_id: str = "",
        turns: typing.Iterable[Turn] = (),
        source: str = "",
        outcome: str = "",
        tags: list[str] | tuple[str, ...] | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        duration_seconds: float | None = None,
        total_tokens: int | None = None,
    ) -> Trajectory:
        """A trajectory of turns. Totals are sums over the turns; `duration_seconds` and `total_tokens` override theirs.

        Raises TypeError, InvalidInput.
        """
        turns = list(turns)
        for number, one in enumerate(turns, 1):
            if not isinstance(one, Turn):
                raise TypeError(f"turns are Turn objects; turn {number} is of {type(one).__name__}")
            for name, value in (("tokens", one.tokens), ("duration_ms", one.duration_ms)):
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise InvalidInput(f"{name} of turn {number} is a number, not {value!r:.40}")
        dicts = [dataclasses.asdict(t) for t in turns]
        return cls(
            trajectory_id=trajectory_id,
            source=source,
            turns_json=_json(dicts),
            total_turns=len(dicts),
            total_tokens=sum(t.tokens for t in turns) if total_tokens is None else total_tokens,
            duration_seconds=sum(t.duration_ms for t in turns) / 1000 if duration_seconds is None else duration_seconds,
            outcome=outcome,
            tags_json=_json(list(tags or ())),
            metadata_json=_json(dict(metadata or {})),
        )

    def get_turns(self) -> list[Turn]:
        """The turns again. Raises InvalidInput where `turns_json` holds no list of turns."""
        return turns_of(self.turns_json)

    @property
    def tags(self) -> list[str]:
        found = json.loads(self.tags_json or "[]")
        return [t for t in found if isinstance(t, str)] if isinstance(found, list) else []


def turns_of(turns_json: str) -> list[Turn]:
    """The turns of a `turns_json`. Raises InvalidInput where it holds no list of turns."""
    try:
        found = json.loads(turns_json or "[]")
    except ValueError as error:
        raise InvalidInput(f"turns_json is no JSON: {error}") from None
    known = {f.name for f in dataclasses.fields(Turn)}
    if not isinstance(found, list) or not all(isinstance(t, dict) and isinstance(t.get("role"), str) for t in found):
        raise InvalidInput("turns_json is a list of objects that have a role")
    return [Turn(**{k: v for k, v in t.items() if k in known}) for t in found]


def target_of(turns: list[Turn], turn: int, on: str) -> str | None:
    """The record that a turn came from; on steps, the record of its step. None where it is not known. Raises InvalidInput."""
    if not 1 <= turn <= len(turns):
        raise InvalidInput(f"there is no turn {turn}; there are {len(turns)}")
    found = turns[turn - 1].metadata.get("step_record" if on == "step" else "record")
    return found if isinstance(found, str) else None


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can name and UTF-8 can't hold
            return json.dumps(value, separators=(",", ":"), allow_nan=False)
        return text
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"turns, tags and metadata must be JSON values: {error}") from None


class Label(Component, shared=("description",)):
    """One technique's verdict on one trajectory. Before it is labelled `status` is "" and `score` is queried as null.

    `status`: ok, refused, parse_error, http_error, over_context, skipped, over_budget or stale (of an earlier version of a rubric
    file); `error` says what is wrong. `cost` is
    what the label's answers cost, `omitted` how many turns the judge did not see whole. `evidence_json` is a list of `{"turn",
    "quote"}`, and `evidence_dropped` counts quotes that do not occur where they should. `verdicts_json` lists what each judge and
    repeat said, where there are several, and `disagreement` is how far they were apart, from 0 to 1. `form_json` is the form that
    an answer must have (of a rubric). Where parts of a session are labelled, `findings_json` lists them as `{"turn", "quote",
    "value", "score", "rationale"}`, `value` is their number, and `score` the mean of their scores.
    """

    technique: str = ""
    description: str = ""
    value: str = ""
    score: float = 0.0
    rationale: str = ""
    sampled: bool = True
    status: str = ""
    error: str = ""
    model: str = ""
    cost: float = 0.0
    omitted: int = 0
    prompt_hash: str = ""
    evidence_json: str = "[]"
    evidence_dropped: int = 0
    verdicts_json: str = "[]"
    disagreement: float = 0.0
    form_json: str = ""
    findings_json: str = "[]"

    def _values(self) -> list[Any]:
        """The score of what nobody labelled is not known: null, not 0."""
        found = super()._values()
        if not self.status and not self.score:
            found[list(self._columns).index("score")] = None
        return found


def archetype_of(types: typing.Iterable[type[Component]]) -> tuple[type[Component], ...]:
    """A set of component types in the order of their prefixes. Raises ValueError for two with one prefix."""
    found: dict[str, type[Component]] = {}
    for one in types:
        if not (isinstance(one, type) and issubclass(one, Component)) or one is Component:
            raise TypeError(f"a component type is a subclass of Component, not {one!r:.100}")
        other = found.setdefault(one._prefix, one)
        if other is not one:
            raise ValueError(
                f"two components have the prefix {one._prefix!r}: {other.__module__}.{other.__qualname__} and "
                f"{one.__module__}.{one.__qualname__}"
            )
    return tuple(found[prefix] for prefix in sorted(found))
