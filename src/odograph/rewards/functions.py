"""Reward functions: a plain function of a trajectory, or of a step, with a name and a version. Knows no store.

What a function gives is a number, None (not known yet), or a mapping of component names to these. Whatever else it gives, NaN
above all, is refused with a sentence that says why.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, TypedDict, Unpack, get_args, overload

from .. import shape
from ..codec import content_hash
from ..errors import InvalidInput, UnknownName
from ..plugins import load
from ..trajectory import Step, Trajectory
from ..types import RewardSource
from .versions import Versioned, fingerprint

#: What a reward function may return; of a group one for each trajectory.
Value = float | Mapping[str, float | None] | None
Values = Value | Sequence[Value]
Per = Literal["trajectory", "step", "group"]
Compute = Callable[..., Values | Awaitable[Values]]
Weight = float | Mapping[str, float]

_SOURCES: tuple[RewardSource, ...] = get_args(RewardSource)
_REASON = 300  # characters of a reason
_SURROGATE = re.compile("[\ud800-\udfff]")


class RewardFunction(Versioned):
    """A reward function: `compute` with a name and a version. Calling the object calls `compute`.

    `compute` takes a trajectory; with `per="step"` a step, or a step and the trajectory; with `per="group"` the trajectories of
    one group, and returns one value per trajectory, in order. `compute` may be async. `version`: the declared version (default:
    a hash of the syntax tree, so comments and layout don't count, of the parameters, of the values that the function closes over,
    and of the constants and helpers of its module that the function names). `weight`: the weight of the reward in the
    trajectory's reward (0 only monitors), or a weight per component. `range`: the allowed values, both ends included. `source`:
    the recorded source of the reward: function, judge, environment or human.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        name: str | None = None,
        version: str | None = None,
        per: Per = "trajectory",
        weight: Weight = 1.0,
        range: tuple[float, float] | None = None,
        source: RewardSource = "function",
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(compute):
            raise TypeError(f"a reward function is a function, not {type(compute).__name__}")
        named = name if name is not None else getattr(compute, "__name__", "")
        if not isinstance(named, str) or not named:
            raise TypeError(f"a reward function's name is a string, not {name!r}; give the function a name: name=")
        if named == "<lambda>":
            raise TypeError('a lambda has no name; give the function a name: odograph.reward(name="...")(lambda t: ...)')
        if per not in get_args(Per):
            raise InvalidInput(f"per is 'trajectory', 'step' or 'group', not {per!r}")
        if source not in _SOURCES:
            raise InvalidInput(f"source is one of {', '.join(_SOURCES)}, not {source!r}")
        if version is not None and (not isinstance(version, str) or not version):
            raise TypeError(f"a version is a string, not {version!r}")
        self.compute = compute
        self.name = named
        self.per: Per = per
        self.weight: float | dict[str, float] = _weights(weight)
        self.range: tuple[float, float] | None = _range(range)
        self.source = source
        self.parameters: dict[str, Any] = dict(parameters or {})
        self._declared = version
        self._version: str | None = None
        #: What it was loaded from by name: where another process finds it.
        self.loaded_from: str | None = None
        self._call = partial(compute, **self.parameters) if self.parameters else compute
        self.is_async: bool = _is_async(compute)
        self.__name__ = named
        self.__doc__ = compute.__doc__ or RewardFunction.__doc__
        self.__module__ = getattr(compute, "__module__", None) or __name__
        self.__qualname__ = getattr(compute, "__qualname__", None) or named

    def __repr__(self) -> str:
        return f"<reward function {self.name} {self.version}>"

    def __call__(self, *what: Any) -> Any:
        return self._call(*what)

    def __reduce__(self) -> Any:
        if self.loaded_from is not None:
            return _loaded, (self.loaded_from, self._about())
        try:  # one that stands in a module under its own name is found there, its undecorated function is not
            found: Any = sys.modules[self.__module__]
            for part in self.__qualname__.split("."):
                found = getattr(found, part)
        except (KeyError, AttributeError):
            found = None
        if found is self:
            return self.__qualname__
        base = found.name if isinstance(found, RewardFunction) and found.compute is self.compute else None
        return _again, ((found if base is not None else self.compute), self._about())

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "per": self.per,
            "weight": self.weight,
            "range": self.range,
            "source": self.source,
            "parameters": self.parameters,
        }

    @property
    def version(self) -> str:
        """The declared version (with a hash of the parameters, if any), else a hash of the syntax tree, constants and helpers."""
        if self._version is None:
            about = {k: fingerprint(v, 0) for k, v in sorted(self.parameters.items())}
            if self._declared is None:
                self._version = content_hash([fingerprint(self.compute, 0), about])[:12]
            else:
                self._version = self._declared
        return self._version

    def fingerprint(self, depth: int, seen: tuple[Any, ...]) -> Any:
        """What tells it from another function of its name that a function uses."""
        if self.compute in seen:
            return self.name
        inside = (self.compute, self.parameters)
        version = self.version if self._declared is not None or not seen else fingerprint(inside, depth + 1, seen)
        return [self.name, version, self.weight]

    def using(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        weight: Weight | None = None,
        range: tuple[float, float] | None = None,
        **parameters: Any,
    ) -> RewardFunction:
        """Returns the same function with other parameters (keyword arguments), or another name, version, weight or range.

        Raises InvalidInput for an unknown parameter.
        """
        known = self._keywords()
        for given in parameters:
            if known is not None and given not in known:
                raise InvalidInput(f"{self.name} has no parameter {given!r}; it has: {', '.join(known) or 'none'}")
        merged = {**self.parameters, **parameters}
        declared = self._declared
        if declared is not None and version is None and merged != self.parameters:
            declared = f"{declared.split('+')[0]}+{content_hash({k: fingerprint(v, 0) for k, v in sorted(merged.items())})[:8]}"
        made = RewardFunction(
            self.compute,
            name=name if name is not None else self.name,
            version=version if version is not None else declared,
            per=self.per,
            weight=self.weight if weight is None else weight,
            range=self.range if range is None else range,
            source=self.source,
            parameters=merged,
        )
        made.loaded_from = self.loaded_from
        return made

    def ready(self) -> Self:
        """Itself. Raises InvalidInput where a parameter that it needs was not given, or it can't be called with what it is of."""
        for parameter in _parameters(self.compute):
            if (
                parameter.kind is parameter.KEYWORD_ONLY
                and parameter.default is parameter.empty
                and parameter.name not in self.parameters
            ):
                raise InvalidInput(f"{self.name} needs a parameter: {self.name}.using({parameter.name}=...)")
        signature = shape.signature(self._call)
        if signature is None:
            return self
        wanted = {"trajectory": ("a trajectory",), "group": ("a list of trajectories",)}.get(
            self.per, ("a step", "a step and its trajectory")
        )
        for given in range(1, len(wanted) + 1):
            with contextlib.suppress(TypeError):
                signature.bind(*wanted[:given])
                return self
        raise InvalidInput(f"{self.name}{signature} can't be called with {' or '.join(wanted)} alone")

    def arguments(self, t: Trajectory, step: Step | None) -> tuple[Any, ...]:
        """What it is called with."""
        if step is None:
            return (t,)
        found = _parameters(self.compute)
        positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        wants_both = len([p for p in positional if p.default is p.empty and p.name not in self.parameters]) > 1
        return (step, t) if wants_both or any(p.kind is p.VAR_POSITIONAL for p in found) else (step,)

    def weight_of(self, component: str) -> float:
        """The weight of its reward, or of one of its components."""
        return self.weight if isinstance(self.weight, float) else self.weight.get(component, 1.0)

    def checked(self, given: Any) -> tuple[dict[str, float | None], bool]:
        """What it gave as named values, and whether that was a mapping. Raises InvalidInput for what is refused."""
        if not isinstance(given, Mapping):
            return {self.name: self._number(given, "")}, False
        out: dict[str, float | None] = {}
        for key, value in given.items():
            if not isinstance(key, str) or not key:
                raise InvalidInput(f"a component's name is a string, not {_shown(key)}")
            if _SURROGATE.search(key):  # no text can hold one: it would be kept under no name
                raise InvalidInput(f"a component's name is text; {_shown(key)} has half a surrogate pair")
            out[str(key)] = self._number(value, f" as {_shown(key)}")
        return out, True

    def _number(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        if type(value) is not float:
            if isinstance(value, (str, bytes, complex)) or not hasattr(value, "__float__"):
                kind = type(value).__name__
                raise InvalidInput(f"the function returned {kind}{where}; a number, None or a mapping of these was expected")
            try:
                value = float(value)
            except Exception as error:
                raise InvalidInput(f"the function returned a value that is no number{where}: {_shown(error)}") from None
        if not math.isfinite(value):
            raise InvalidInput(
                f"the function returned {value}{where}; a finite number was expected, or None for an unknown reward"
            )
        if self.range is not None and not self.range[0] <= value <= self.range[1]:
            raise InvalidInput(f"the function returned {value}{where}, outside of its range {self.range[0]} to {self.range[1]}")
        return float(value) + 0.0  # a subclass of float as a plain one, and no negative zero

    def total(self, given: Any) -> float | None:
        """What it gave as a number: of components the weighted sum, None where one that counts is not known."""
        values, named = self.checked(given)
        if not named:
            return values[self.name]
        counted = [(v, self.weight_of(k)) for k, v in values.items() if self.weight_of(k)]
        known = [v * weight for v, weight in counted if v is not None]
        return math.fsum(known) if known and len(known) == len(counted) else None

    def _keywords(self) -> list[str] | None:
        """The names of its parameters beside what it is called with; None where it takes any."""
        found = _parameters(self.compute)
        if any(p.kind is p.VAR_KEYWORD for p in found):
            return None
        return [p.name for p in found if p.kind is p.KEYWORD_ONLY or (p.default is not p.empty)]


#: The functions of the library, by name: it puts them here.
LIBRARY: dict[str, RewardFunction] = {}


def _loaded(name: str, about: dict[str, Any]) -> RewardFunction:
    return RewardFunction(as_reward_function(name).compute, **about)


def _again(of: Any, about: dict[str, Any]) -> RewardFunction:
    return RewardFunction(of.compute if isinstance(of, RewardFunction) else of, **about)


class FunctionArgs(TypedDict, total=False):
    """The keywords of `odograph.reward_function`, and with `name` of `odograph.reward`."""

    version: str | None
    per: Per
    weight: Weight
    range: tuple[float, float] | None
    source: RewardSource


@overload
def reward(fn: Compute, /) -> RewardFunction: ...
@overload
def reward(*, name: str | None = None, **about: Unpack[FunctionArgs]) -> Callable[[Compute], RewardFunction]: ...
def reward(fn: Any = None, /, **about: Any) -> Any:
    """Gives a reward function a name and a version, for `store.score`.

    `@odograph.reward`, or `@odograph.reward(name=, version=, per=, weight=, range=, source=)`: see `RewardFunction`. The
    function takes a trajectory (with `per="step"` a step, with `per="group"` a list of trajectories). The function returns a
    number, None for a reward that is not known yet, or a mapping of component names to these. The function may be async.
    """
    if fn is None:
        return lambda fn: RewardFunction(fn, **about)
    return RewardFunction(fn, **about)


def reward_function(name: str, compute: Compute, **about: Unpack[FunctionArgs]) -> RewardFunction:
    """`reward` as a function call: `reward_function(name="pnl", compute=lambda t: t.result["pnl"] / 100)`."""
    return RewardFunction(compute, name=name, **about)


#: A plain function is one of a trajectory.
Plain = Callable[[Trajectory], Value | Awaitable[Value]]


def as_reward_function(what: RewardFunction | Plain | str) -> RewardFunction:
    """Loads a reward function: a `RewardFunction`, a plain function, `file.py:function`, `package:function`, or a name of
    `odograph.rewards`.

    Raises NotFound, InvalidInput, TypeError.
    """
    if isinstance(what, RewardFunction):
        return what
    if not isinstance(what, str):
        return RewardFunction(what)
    where, _, named = what.partition(":")
    if not named and not where.endswith(".py"):
        found = LIBRARY.get(what)
        if found is None:
            there = ", ".join(LIBRARY)
            raise UnknownName(
                f"no reward function {what!r}; there are: {there}, or name one as file.py:function or package:function"
            )
    elif not named:
        module = load(what)
        functions = [n for n, v in vars(module).items() if isinstance(v, RewardFunction) and not n.startswith("_")]
        if len(functions) != 1:
            there = f"has {', '.join(functions)}" if functions else "has none that is decorated with @odograph.reward"
            raise InvalidInput(f"{what} {there}; name one: {where}:function")
        found = getattr(module, functions[0])
    else:
        found = load(what)
    if not callable(found):
        raise InvalidInput(f"{what} is no function but {type(found).__name__}")
    function = found.using() if isinstance(found, RewardFunction) else RewardFunction(found)
    function.loaded_from = what
    return function


# --- what is checked ------------------------------------------------------------------------------------------------


def _weights(given: Any) -> float | dict[str, float]:
    if isinstance(given, Mapping):
        return {str(k): w for k, v in given.items() if isinstance(w := _weights(v), float)}
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise TypeError(f"a weight is a finite number, or one for each component by name, not {given!r}")
    return float(given)


def _range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        raise TypeError(f"a range is a pair (low, high), not {given!r}") from None
    if not low <= high:
        raise InvalidInput(f"a range is a pair (low, high), not ({low}, {high})")
    return low, high


def _shown(value: Any) -> str:
    """Anything in a few characters of one line; an object's own methods may fail."""
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return " ".join(text[:_REASON].split())


def reason(error: BaseException) -> str:
    """Why a function failed, in one line."""
    said = _shown(error)
    return said if isinstance(error, InvalidInput) else f"{type(error).__name__}: {said}" if said else type(error).__name__


def _is_async(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _parameters(fn: Any) -> list[inspect.Parameter]:
    signature = shape.signature(fn)
    return [] if signature is None else list(signature.parameters.values())
