"""`Proxy`: the ports, the store and the controls as one thing; on an event loop of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from ..access import in_url, is_loopback, listen
from ..api import Store
from ..codec import encode, loads
from ..errors import InvalidInput, OdographError, StoreError
from ..types import STATUSES, Status
from .control import Traffic
from .gate import Gate, Refused, tickets_address
from .recording import Recording
from .server import Door, Limits, refusal
from .upstreams import Upstreams

_CONTROL_BYTES = 1 << 16
_DRAIN_SECONDS = 30.0


class Proxy:
    """A recording proxy. `with Proxy(store, ["http://127.0.0.1:8000"]) as proxy: proxy.url`, or `await proxy.open()`.

    `upstreams`: the URLs of the model's API; with several, a run's calls go where its first went. `also` adds ports with other
    upstreams. `token`: without it nobody but the holder of a ticket passes; needed to listen beyond this machine.
    `key`: goes upstream in place of the clients' keys. `tokens`: asks for token ids and logprobs. `policy`: the version of the
    weights. `hosts` and `origins` are allowed beside this machine's names and no page. Raises InvalidInput.
    """

    def __init__(
        self,
        store: Store,
        upstreams: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        key: str | None = None,
        tokens: bool = False,
        policy: str | int | None = None,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        if not is_loopback(host) and not token:
            raise InvalidInput(
                f"listening on {host} lets other machines in: give a token (--token), which every sender must send"
            )
        if token is not None and len(token) < 16:
            raise InvalidInput("a token has at least 16 characters")
        self.store = store
        self._host, self._port = host, port
        self._upstreams = [Upstreams(upstreams)]
        self._gate = Gate(token, [*hosts, host], origins)
        self._more: dict[str, Any] = {"tokens": tokens, "key": key}
        self._policy = policy
        self._limits = limits or Limits()
        self._recording = Recording(store)
        self._traffic: Traffic | None = None
        self._runners: list[web.ServerRunner] = []
        self._doors: list[Door] = []
        #: Where each port is; the first has the controls.
        self.urls: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hurry: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where clients find the first upstream."""
        return self.urls[0]

    def also(self, upstreams: Sequence[str]) -> int:
        """One more port, which leads to other upstreams. Returns its number in `urls`. Before `open`."""
        self._upstreams.append(Upstreams(upstreams))
        return len(self._upstreams) - 1

    # --- async ---------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listens. Raises InvalidInput for a place where it can't, StoreError for a store in which nothing can be recorded."""
        _check(self.store)
        self._traffic = Traffic(self._limits.requests, self._policy)
        for number, upstreams in enumerate(self._upstreams):
            listening = listen(self._host, self._port if number == 0 else 0)
            control = self._controlled if number == 0 else None
            door = Door(self._gate, upstreams, self._recording, self._traffic, self._limits, control=control, **self._more)
            self._runners.append(await door.open(listening))
            self._doors.append(door)
            self.urls.append(f"http://{in_url(self._host)}:{listening.getsockname()[1]}")

    async def aclose(self, drain: float = _DRAIN_SECONDS) -> None:
        """Takes no more requests, waits for those that pass, and writes what is left."""
        if self._traffic is None:
            return
        self._traffic.closing = True
        self._hurry = asyncio.Event()
        drained = asyncio.ensure_future(self._traffic.drained(drain))
        hurried = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for runner in self._runners:
            await runner.cleanup()
        for door in self._doors:
            await door.close()
        await asyncio.to_thread(self._recording.close)
        self._traffic = None

    def hurry(self) -> None:
        """While it closes: waits no longer for requests that pass."""
        if self._hurry is not None:
            self._hurry.set()

    @property
    def recorded(self) -> int:
        """How many calls were recorded."""
        return self._recording.placer.recorded

    # --- for programs without an event loop ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        ready = threading.Event()
        wrong: list[BaseException] = []

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            try:
                await self.open()
            except BaseException as error:
                wrong.append(error)
                ready.set()
                return
            ready.set()
            await self._stop.wait()
            await self.aclose(self._drain)

        self._drain = _DRAIN_SECONDS
        self._thread = threading.Thread(target=asyncio.run, args=(run(),), name="odograph-proxy-loop", daemon=True)
        self._thread.start()
        ready.wait()
        if wrong:
            raise wrong[0]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self, drain: float = _DRAIN_SECONDS) -> None:
        """`aclose`, from outside of the loop."""
        if self._thread is not None and self._loop is not None:
            self._drain = drain
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    # --- what trainers do ----------------------------------------------------------------------------------------------------

    def rollout(self, run: str, **about: Any) -> str:
        """The address of a run that nobody else gets into: a base URL for the run's agent, without `/v1`. `about`: group, task,
        agent, attempt, policy_version, purpose, tags, metadata. The secret in the address is also a key. Raises InvalidInput."""
        return f"{self.url}/t/{self.ticket(run, **about)}"

    def ticket(self, run: str, **about: Any) -> str:
        """The secret of a run: a part of an address, `/t/TICKET/`, or the API key that its agent uses."""
        return self._gate.issue(tickets_address({"run": run, **about}))

    def pause(self) -> None:
        """From now on each new call is answered 503 with Retry-After; those that run go on."""
        self._call(lambda traffic: setattr(traffic, "paused", True))

    def resume(self, policy: str | int | None = None) -> None:
        """Calls pass again. `policy`: the version of the weights that answer them."""

        def resume(traffic: Traffic) -> None:
            if policy is not None:
                traffic.set_policy(policy)
            traffic.paused = False

        self._call(resume)

    def drain(self, seconds: float | None = None) -> bool:
        """Pauses, and waits until no call runs. Whether it came to that in time."""
        self.pause()
        assert self._loop is not None
        assert self._traffic is not None
        return asyncio.run_coroutine_threadsafe(self._traffic.drained(seconds), self._loop).result()

    def set_policy(self, version: str | int) -> None:
        """The policy has another version from now on, also for the calls that run."""
        self._call(lambda traffic: traffic.set_policy(version))

    def end(self, run: str, *, status: Status = "completed", attempt: int | None = None, **more: Any) -> str | None:
        """Ends the trajectory of a run, and its tickets. The trajectory's id; None where no call of it was recorded."""
        if status not in STATUSES:
            raise InvalidInput(f"a status is one of {', '.join(STATUSES)}, not {status!r}")
        self._gate.withdraw(run, attempt)
        return self._recording.call(self._recording.placer.end, run, attempt, status, **more)

    def own(self, run: str, **about: Any) -> None:
        """The run ends with `end` and not with an answer. `about`: task, group, tags, metadata, agent of its trajectory."""
        self._recording.call(self._recording.placer.owned, run, about)

    def _call(self, fn: Callable[[Traffic], Any]) -> None:
        assert self._loop is not None
        assert self._traffic is not None
        traffic = self._traffic

        async def call() -> None:
            fn(traffic)

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    # --- the same over HTTP --------------------------------------------------------------------------------------------------

    async def _controlled(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers `/odograph/...`, which only the holder of the token may ask."""
        traffic = self._traffic
        assert traffic is not None
        self._gate.check_control(request.headers)
        command = request.raw_path.partition("?")[0].removeprefix("/odograph/")
        try:
            if request.method == "GET" and command == "metrics":
                gauges = {"upstreams": len(self._upstreams[0].all), "policy_changes": traffic.counts["control", "policy"]}
                text = traffic.text(self._recording.placer.recorded, gauges)
                return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
            if request.method == "GET" and command == "health":
                return _json(
                    {
                        "paused": traffic.paused,
                        "in_flight": traffic.busy - traffic.resting,
                        "policy": traffic.policy,
                        **self.store.health(),
                    }
                )
            if request.method == "POST":
                return _json(await self._command(command, await _body(request), traffic))
        except (OdographError, TypeError) as error:
            return refusal(Refused(500 if isinstance(error, StoreError) else 400, "control", str(error)))
        there = "GET metrics, health; POST pause, resume, drain, policy, runs, end"
        return refusal(Refused(404, "control", f"no control {request.method} {command[:50]!r}; there are: {there}"))

    async def _command(self, command: str, given: dict[str, Any], traffic: Traffic) -> Any:
        traffic.counts["control", command if command in ("pause", "resume", "drain", "policy", "runs", "end") else "other"] += 1
        if command == "pause":
            traffic.paused = True
        elif command in ("resume", "policy"):
            version = given.get("version")
            if version is not None or command == "policy":
                if not isinstance(version, (str, int)) or isinstance(version, bool):
                    raise InvalidInput(f"a version is a text or a whole number, not {version!r}")
                traffic.set_policy(version)
            if command == "resume":
                traffic.paused = False
        elif command == "drain":
            seconds = given.get("seconds", _DRAIN_SECONDS)
            if not isinstance(seconds, (int, float)) or not 0 <= seconds <= 3600:
                raise InvalidInput(f"seconds is a number from 0 to 3600, not {seconds!r}")
            traffic.paused = True
            return {"drained": await traffic.drained(float(seconds)), "in_flight": traffic.busy - traffic.resting}
        elif command == "runs":
            ticket = self._gate.issue(tickets_address(given))
            return {"ticket": ticket, "url": f"{self.url}/t/{ticket}"}
        elif command == "end":
            run, status, attempt = given.get("run"), given.get("status", "completed"), given.get("attempt")
            if not isinstance(run, str) or status not in STATUSES or not isinstance(attempt, (int, type(None))):
                raise InvalidInput(f"the end of a run needs the run's name, and a status of {', '.join(STATUSES)}")
            self._gate.withdraw(run, attempt)
            answer = {"answer": given["answer"]} if "answer" in given else {}
            return {"trajectory": await self._recording.run(self._recording.placer.end, run, attempt, status, **answer)}
        else:
            raise InvalidInput(f"no control {command[:50]!r}; there are: pause, resume, drain, policy, runs, end")
        return {"paused": traffic.paused, "in_flight": traffic.busy - traffic.resting, "policy": traffic.policy}


def _check(store: Store) -> None:
    """Raises StoreError for a store that can't be written: calls would pass unrecorded."""
    folder = store.backend.sink.folder
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), folder)
    if not os.path.isdir(there):
        raise StoreError(f"nothing can be recorded in {store.backend}: {str(there)!r} is no folder")
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=effective):
        raise StoreError(f"nothing can be recorded in {store.backend}: {str(there)!r} can't be written")


def _json(value: Any) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    if (request.content_length or 0) > _CONTROL_BYTES:
        raise InvalidInput(f"a control's body has at most {_CONTROL_BYTES:,} bytes")
    data = await request.content.read(_CONTROL_BYTES)
    value = loads(data) if data.strip() else {}
    if not isinstance(value, dict):
        raise InvalidInput("a control's body is a JSON object")
    return value
