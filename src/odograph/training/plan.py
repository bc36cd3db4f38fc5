"""How samples are built: what was asked for, checked. Knows no trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Required, TypedDict, get_args

import msgspec

from ..errors import InvalidInput
from ..lineage import CLASSES, Node
from .advantages import CONVENTIONS, Alias, Named, convention

#: What happens where the context is not what the calls before left; the first three may differ by class of edit.
Part = Literal["env", "mask", "reweight"]
Policy = Part | Literal["imitate", "pair"]
Credit = Literal["trajectory", "sum", "last", "per-step"]
TooLong = Literal["drop", "split"]
_PARTS: tuple[Part, ...] = get_args(Part)
POLICIES: tuple[Policy, ...] = tuple(word for words in get_args(Policy) for word in get_args(words))
CREDITS: tuple[Credit, ...] = get_args(Credit)
TOO_LONG: tuple[TooLong, ...] = get_args(TooLong)
#: Gets the ids of a row, gives the logprob of each under what stands left of it (the first's is not looked at).
Scorer = Callable[[list[int]], list[float]]

_TEXT, _NUMBER, _SWITCH = (str, NoneType), (int, float), (bool,)
_KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("advantage", _TEXT, "the name of a convention"),
    ("agent", _TEXT, "an agent's name"),
    ("model", _TEXT, "a model's name"),
    ("reward", _TEXT, "a reward's name"),
    ("purpose", (str, tuple, list), "a purpose, or a list of them"),
    ("discount", _NUMBER, "a number of at least 0"),
    ("cap", _NUMBER, "a number of at least 0"),
    ("max_tokens", (int, NoneType), "a whole number"),
    ("logprobs", _SWITCH, "true or false"),
    ("include_failed", _SWITCH, "true or false"),
    ("include_invalid", _SWITCH, "true or false"),
    ("include_running", _SWITCH, "true or false"),
    ("deleted", _SWITCH, "true or false"),
)


class _Options(TypedDict, total=False):
    """Those of `RowOptions` that say nothing of what a sample is."""

    advantage: Named | Alias | None
    purpose: str | tuple[str, ...] | list[str]
    reward: str | None
    credit: Credit
    discount: float
    max_tokens: int | None
    too_long: TooLong
    logprobs: bool
    include_failed: bool
    include_invalid: bool
    include_running: bool
    tokenizer: Any
    scorer: Scorer | None
    cap: float
    deleted: bool


class RowOptions(_Options, total=False):
    """How samples are built of the policy that is chosen: keywords of `odograph.samples` and of `store.export`. `Plan` says what
    each is and what holds where it is not given."""

    edits: Policy | dict[str, Part] | Callable[[Node], Part]


class _Chosen(TypedDict, total=False):
    agent: str | None
    model: str | None


class SampleOptions(RowOptions, _Chosen, total=False):
    """How samples are built: the keywords of `odograph.samples`."""


class PairOptions(_Options, _Chosen, total=False):
    """The keywords of `odograph.samples` that gives pairs."""

    edits: Required[Literal["pair"]]


class MergedOptions(_Options, _Chosen, total=False):
    """The keywords of `odograph.samples` that gives samples."""

    edits: Part | Literal["imitate"] | dict[str, Part] | Callable[[Node], Part]


def _doc(text: str, flag: str | None = "", **more: Any) -> msgspec.Meta:
    """What an option says; its flag of the command line where that is not its name (None: it has none), and what stands for the
    flag's value in the help."""
    return msgspec.Meta(description=text, extra={"flag": flag, **more})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How samples are built; the arguments of `samples`. One list: the flags of the command line come from it."""

    edits: Annotated[
        Policy | dict[str, Part] | Callable[[Node], Part],
        _doc(
            "what happens where the context is not what the calls before left: env, mask, reweight, imitate or pair; or by class"
            " of edit: truncation=env,other=mask",
            metavar="E",
        ),
    ] = "env"
    advantage: Annotated[
        Named | Alias | None,
        _doc(f"how advantages are computed over groups: {', '.join(CONVENTIONS)}", metavar="A", default="the format's"),
    ] = None
    agent: Annotated[str | None, _doc("train the calls of this agent only", "policy", metavar="AGENT", default="all")] = None
    model: Annotated[str | None, _doc("train the calls of this model only", None)] = None
    purpose: Annotated[str | tuple[str, ...] | list[str], _doc("train the calls with these purposes", None)] = ("act",)
    reward: Annotated[
        str | None, _doc("the name of the reward that counts", metavar="NAME", default="the trajectory's reward")
    ] = None
    credit: Annotated[Credit, _doc("whose reward counts", choices=CREDITS)] = "trajectory"
    discount: Annotated[float, _doc("discount of later rewards, with --credit per-step", metavar="D")] = 1.0
    max_tokens: Annotated[int | None, _doc("longest row, in tokens", metavar="N", default="no limit")] = None
    too_long: Annotated[TooLong, _doc("what happens to longer rows", choices=TOO_LONG)] = "drop"
    logprobs: Annotated[bool, _doc("refuse rows of which a trained token has no logprob that a trainer can use", None)] = False
    include_failed: Annotated[bool, _doc("keep trajectories that failed through the environment")] = False
    include_invalid: Annotated[bool, _doc("keep trajectories with an error of `odograph validate --profile rl`")] = False
    include_running: Annotated[bool, _doc("keep trajectories that are still being recorded, where trajectories are compared")] = (
        False
    )
    tokenizer: Annotated[
        Any, _doc("a tokenizer.json, which places edits of text", metavar="FILE", default="edits of text are not placed")
    ] = None
    scorer: Annotated[Scorer | None, _doc("gives the logprob of each id of a row, for edits=reweight", None)] = None
    cap: Annotated[float, _doc("highest weight, with --edits reweight", None)] = 2.0
    deleted: Annotated[bool, _doc("train tokens that an edit or a truncation took out of a response", None)] = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Plan:
        """Raises TypeError for an option that is not there, InvalidInput for a value that is none."""
        for name in options:
            if name not in cls.__struct_fields__:
                raise TypeError(f"no option {name!r}; there are: {', '.join(cls.__struct_fields__)}")
        return cls(**options)

    def __post_init__(self) -> None:
        for name, kinds, expected in _KINDS:
            if not isinstance(getattr(self, name), kinds):
                raise InvalidInput(f"{name} is {expected}, not {getattr(self, name)!r}")
        if isinstance(self.purpose, str):
            msgspec.structs.force_setattr(self, "purpose", (self.purpose,))
        for name in ("discount", "cap"):
            if not (value := getattr(self, name)) >= 0.0:  # NaN, too
                raise InvalidInput(f"{name} is a number of at least 0, not {value!r}")
        if not callable(self.edits) and not isinstance(self.edits, (str, dict)):
            raise InvalidInput(f"edits is a word, a mapping from classes of edits to words or a function, not {self.edits!r}")
        if self.scorer is not None and not callable(self.scorer):
            raise InvalidInput(f"scorer is a function from ids to logprobs, not {self.scorer!r}")
        words = [self.edits] if isinstance(self.edits, str) else self.edits.values() if isinstance(self.edits, dict) else []
        for word in words:
            _check("edits", word, POLICIES)
        if isinstance(self.edits, dict):
            for name, word in self.edits.items():
                _check("class of edits", name, (*CLASSES, "other"))
                if word in ("imitate", "pair"):
                    raise InvalidInput(f"edits={word!r} is for all edits or none, not for {name!r} alone")
        _check("credit", self.credit, CREDITS)
        _check("too_long", self.too_long, TOO_LONG)
        if self.advantage is not None:
            convention(self.advantage)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidInput(f"max_tokens is 1 or more, not {self.max_tokens}")
        if self.discount != 1.0 and self.credit != "per-step":
            raise InvalidInput(
                f"discount={self.discount:g} is of later rewards: it goes with credit='per-step', not with {self.credit!r}"
            )
        if self.advantage is not None and self.edits in ("imitate", "pair"):
            raise InvalidInput(f"edits={self.edits!r} has no advantages; leave advantage= out")

    @property
    def compares(self) -> bool:
        """Whether advantages are of a comparison."""
        return self.advantage is not None and not convention(self.advantage).raw

    def word(self, node: Node) -> str:
        """What is to happen at a node whose prompt does not extend what was before."""
        if node.kind == "adapter":
            return "env"
        if isinstance(self.edits, str):
            return self.edits
        if isinstance(self.edits, dict):
            return self.edits.get(node.kind, self.edits.get("other", "env"))
        word = self.edits(node)
        _check("edits", word, _PARTS)
        return word

    @property
    def final(self) -> str:
        """What happens to edits that no call came after."""
        if isinstance(self.edits, str):
            return self.edits
        return self.edits.get("declared", self.edits.get("other", "env")) if isinstance(self.edits, dict) else "env"


def _check(what: str, word: Any, known: Iterable[str]) -> None:
    if word not in known:
        raise InvalidInput(f"no {what} {word!r}; there are: {', '.join(known)}")


class Described(NamedTuple):
    """An option with a flag of the command line: its name, the flag, the type of its value (`bool`: a switch), and its help."""

    name: str
    flag: str
    kind: type
    text: str
    metavar: str | None
    choices: tuple[str, ...] | None


def described() -> list[Described]:
    """The options that have a flag. The help of each says the default."""
    found: list[Described] = []
    for field in msgspec.structs.fields(Plan):
        meta: msgspec.Meta = field.type.__metadata__[0]
        extra = meta.extra or {}
        flag = extra["flag"]
        if flag is None:
            continue
        kinds = get_args(field.type.__origin__) or (field.type.__origin__,)
        kind = kinds[0] if kinds[0] in (int, float, bool) else str
        default = extra.get("default", field.default)
        text = (
            meta.description
            if kind is bool
            else f"{meta.description} (default: {default:g})"
            if isinstance(default, float)
            else f"{meta.description} (default: {default})"
        )
        found.append(
            Described(
                field.name,
                f"--{(flag or field.name).replace('_', '-')}",
                kind,
                str(text),
                extra.get("metavar"),
                extra.get("choices"),
            )
        )
    return found
