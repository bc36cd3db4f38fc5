"""A hard limit of what judges may spend. Knows numbers, and no request."""

from __future__ import annotations

from ..errors import InvalidInput, OdographError


class OverBudget(OdographError):
    """A request that the budget has no room for."""


class Budget:
    """A limit for the judges' common spending during this object's lifetime; None: no limit. Answers from the journal cost
    nothing.

    A request is sent only if the spending so far, the requests in progress and the most that the request can cost stay below the
    limit. A prompt counts a token per three bytes. An answer counts `max_tokens` of the judge's parameters, else the longest
    answer so far. `cost` is in the currency of the judge's `prices`.
    """

    def __init__(self, *, calls: int | None = None, tokens: int | None = None, cost: float | None = None) -> None:
        for name, value in (("calls", calls), ("tokens", tokens), ("cost", cost)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
                raise InvalidInput(f"{name} is a number from 0, not {value!r}")
        self.limits: dict[str, float | None] = {"calls": calls, "tokens": tokens, "cost": cost}
        #: Requests that were sent (each retry is one), tokens of prompts and answers, and what they cost.
        self.spent: dict[str, float] = {"calls": 0, "tokens": 0, "cost": 0.0}
        self._held: dict[str, float] = {"calls": 0, "tokens": 0, "cost": 0.0}

    def __repr__(self) -> str:
        parts = [f"{self.spent[n]:g} of {'any' if most is None else f'{most:g}'} {n}" for n, most in self.limits.items()]
        return f"<Budget {', '.join(parts)}>"

    def take(self, **more: float) -> None:
        """Holds what a request can come to. Raises OverBudget."""
        for name, value in more.items():
            most = self.limits[name]
            total = self.spent[name] + self._held[name] + value
            if most is not None and total > most + 1e-9:
                raise OverBudget(f"a budget of {most:g} {name} has {self.spent[name]:g} spent; this could take it to {total:g}")
        for name, value in more.items():
            self._held[name] += value

    def pay(self, held: dict[str, float], **spent: float) -> None:
        """Releases the reserved amount, and books the amount spent."""
        for name, value in held.items():
            self._held[name] -= value
        for name, value in spent.items():
            self.spent[name] += value

    def left(self) -> dict[str, float | None]:
        """What is neither spent nor held; None where there is no limit."""
        return {n: None if most is None else max(0.0, most - self.spent[n] - self._held[n]) for n, most in self.limits.items()}
