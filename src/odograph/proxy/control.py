"""What a trainer does to a running proxy: pause, resume, drain, the policy's version, tickets, ends; and what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from .gate import Refused
from .passing import Passing

_RETRY_SECONDS = 1


class Traffic:
    """What passes at the moment, and what has passed. Of the event loop's thread."""

    def __init__(self, most: int, policy: str | int | None) -> None:
        #: Requests that pass at once at most.
        self._most = most
        self.policy = policy
        self.paused: bool = False
        self.closing: bool = False
        self.busy: int = 0
        #: WebSockets in which no call runs, which are busy and keep nobody waiting.
        self.resting: int = 0
        self.calls: set[Passing] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """Raises Refused while it is paused."""
        if self.paused or self.closing:
            why = "the proxy is shutting down" if self.closing else "calls are paused while the policy's weights change"
            self.counts["refused", "paused"] += 1
            raise Refused(503, "paused", f"{why}; try again", _RETRY_SECONDS)

    def enter(self) -> None:
        """A request is about to go upstream. Raises Refused where none may go now."""
        self.check()
        if self.busy >= self._most:
            self.counts["refused", "busy"] += 1
            raise Refused(503, "busy", f"{self._most:,} requests pass at once already, which is the most", _RETRY_SECONDS)
        self.busy += 1
        self._idle.clear()

    def leave(self) -> None:
        """A request has passed."""
        self.busy -= 1
        self._look()

    def rest(self, more: int) -> None:
        """So many more WebSockets have no call that runs."""
        self.resting += more
        self._look()

    def _look(self) -> None:
        if self.busy > self.resting:
            self._idle.clear()
        else:
            self._idle.set()

    async def drained(self, seconds: float | None) -> bool:
        """Waits until nothing passes. Whether it came to that in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def set_policy(self, version: str | int) -> None:
        """The policy has another version from now on: the tokens that a running call gets from here on are of that version."""
        self.policy = version
        for call in list(self.calls):
            call.changed(version)

    def text(self, recorded: int, gauges: dict[str, Any]) -> str:
        """The counts in the text format of Prometheus."""
        lines = ["# TYPE odograph_proxy_total counter"]
        for (name, what), count in sorted(self.counts.items()):
            lines.append(f'odograph_proxy_total{{event="{name}",what="{what}"}} {count}')
        shown = {"recorded_calls": recorded, "requests_in_flight": self.busy - self.resting, "paused": int(self.paused), **gauges}
        for name, value in shown.items():
            lines += [f"# TYPE odograph_proxy_{name} gauge", f"odograph_proxy_{name} {value}"]
        return "\n".join(lines) + "\n"


#: A control request's body -> what it answers.
Command = Callable[[dict[str, Any]], Any]
