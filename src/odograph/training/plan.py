"""How samples are built: what was asked for, checked. Knows no trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any, TypedDict

import msgspec

from ..errors import InvalidInput
from ..lineage import CLASSES, Node
from .advantages import convention

POLICIES = ("env", "mask", "reweight", "imitate", "pair")
CREDITS = ("trajectory", "sum", "last", "per-step")
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
    ("deleted", _SWITCH, "true or false"),
)


class RowOptions(TypedDict, total=False):
    """How samples are built of the policy that is chosen: keywords of `odograph.samples` and of `store.export`."""

    edits: str | dict[str, str] | Callable[[Node], str]
    """What happens where the context is not what the calls before left: env (the default), mask, reweight, imitate or pair; a
    mapping from classes of edits to the first three; or a function of the `Node`. See docs/edits.md."""
    advantage: str | None
    """grpo, verl, trl-async, art, dr_grpo, rloo or reward, over groups. None: no advantages."""
    purpose: str | tuple[str, ...] | list[str]
    """Purposes of the calls that are trained ("act")."""
    reward: str | None
    """The name of the reward that counts; else the trajectory's."""
    credit: str
    """Whose reward counts: trajectory (the default), sum, last or per-step."""
    discount: float
    """Of later rewards, with credit="per-step" (1.0)."""
    max_tokens: int | None
    """The most tokens of a row."""
    too_long: str
    """What happens to longer rows: drop (the default) or split."""
    logprobs: bool
    """True refuses rows of which a trained token has no logprob."""
    include_failed: bool
    """True keeps what failed through the environment."""
    include_invalid: bool
    """True keeps trajectories with fewer recorded ids than completion tokens."""
    tokenizer: Any
    """Places edits of text: a tokenizer of the package tokenizers, or its file."""
    scorer: Scorer | None
    """For edits="reweight": gives the logprob of each id of a row."""
    cap: float
    """For edits="reweight": the highest weight (2.0)."""
    deleted: bool
    """False: tokens that an edit or a truncation took out of a response are not trained (True)."""


class SampleOptions(RowOptions, total=False):
    """How samples are built: the keywords of `odograph.samples`."""

    agent: str | None
    """The policy that is trained: the name of its agent."""
    model: str | None
    """The policy that is trained: its model."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How samples are built; the arguments of `samples`."""

    edits: str | dict[str, str] | Callable[[Node], str] = "env"
    advantage: str | None = None
    agent: str | None = None
    model: str | None = None
    purpose: str | tuple[str, ...] | list[str] = ("act",)
    reward: str | None = None
    credit: str = "trajectory"
    discount: float = 1.0
    max_tokens: int | None = None
    too_long: str = "drop"
    logprobs: bool = False
    include_failed: bool = False
    include_invalid: bool = False
    tokenizer: Any = None
    scorer: Scorer | None = None
    cap: float = 2.0
    deleted: bool = True

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
        _check("too_long", self.too_long, ("drop", "split"))
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

    def word(self, node: Node) -> str:
        """What is to happen at a node whose prompt does not extend what was before."""
        if node.kind == "adapter":
            return "env"
        if isinstance(self.edits, str):
            return self.edits
        if isinstance(self.edits, dict):
            return self.edits.get(node.kind, self.edits.get("other", "env"))
        word = self.edits(node)
        _check("edits", word, ("env", "mask", "reweight"))
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
