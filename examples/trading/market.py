"""A prediction market in a file: questions with prices, trades, and outcomes that are known a week later."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Days from a market's opening until its outcome is known.
RESOLVES_AFTER = 7


class InsufficientFunds(Exception):
    """A trade that costs more than the trader has."""


@dataclass(frozen=True)
class Market:
    """A question that resolves to yes or no. `price` of a yes share and `poll`, a noisy estimate of the chance, are in (0, 1)."""

    id: str
    question: str
    price: float
    poll: float


class Exchange:
    """Where shares are bought. All of it follows from `seed`; the day is in the file, which every process reads."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self._path = path
        if not path.exists():
            path.write_text(json.dumps({"seed": seed, "day": 0}))
        self._state: dict[str, int] = json.loads(path.read_text())

    @property
    def day(self) -> int:
        """Today."""
        return self._state["day"]

    def wait(self, days: int) -> None:
        """Lets time pass."""
        self._state["day"] += days
        self._path.write_text(json.dumps(self._state))

    def markets(self) -> list[Market]:
        """The markets that open today."""
        found = []
        for number in range(3):
            chance = self._random(self.day, number)
            truth = chance.uniform(0.1, 0.9)
            price = min(0.95, max(0.05, truth + chance.uniform(-0.25, 0.25)))
            poll = min(0.95, max(0.05, truth + chance.uniform(-0.1, 0.1)))
            question = f"Will candidate {'ABC'[number]} lead on day {self.day + RESOLVES_AFTER}?"
            found.append(Market(f"{self.day}-{number}", question, round(price, 2), round(poll, 2)))
        return found

    def buy(self, market: str, side: str, amount: float, balance: float) -> dict[str, Any]:
        """Buys shares for `amount`. Raises InsufficientFunds, and ValueError for a market or side that is not there."""
        open_today = {m.id: m for m in self.markets()}
        if market not in open_today or side not in ("yes", "no"):
            raise ValueError(f"no market {market!r} with a side {side!r}; open are: {', '.join(open_today)}")
        if amount > balance:
            raise InsufficientFunds(f"{amount} is more than the balance of {balance}")
        price = open_today[market].price if side == "yes" else 1 - open_today[market].price
        return {"market": market, "side": side, "investment": amount, "price": price, "shares": amount / price}

    def realized_pnl(self, trade: dict[str, Any]) -> float | None:
        """What a trade has earned beyond what was paid; None until its market has resolved. A share of the right side pays 1."""
        opened, number = map(int, trade["market"].split("-"))
        if self.day < opened + RESOLVES_AFTER:
            return None
        chance = self._random(opened, number)
        truth = chance.uniform(0.1, 0.9)
        outcome = "yes" if random.Random(f"{self._state['seed']}/{trade['market']}").random() < truth else "no"
        return float(trade["shares"] * (outcome == trade["side"]) - trade["investment"])

    def _random(self, day: int, number: int) -> random.Random:
        return random.Random(f"{self._state['seed']}-{day}-{number}")


def as_data(markets: list[Market]) -> list[dict[str, Any]]:
    """Markets as JSON."""
    return [asdict(m) for m in markets]
