"""How samples are built: what was asked for, checked. Knows no trajectory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

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
)


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
    tokenizer: Any = None
    scorer: Scorer | None = None
    cap: float = 2.0

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
