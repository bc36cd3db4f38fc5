"""The recording proxy beside a bare aiohttp pass-through, LiteLLM's proxy and no proxy at all: first bytes, spaced streams, calls
a second.

`python -m bench.proxies upstream` and `python -m bench.proxies bare URL` are the other processes of the measurement.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
from aiohttp import web

from odograph.access import keep_buffers

EVENTS = 20
SPACE = 0.005  # seconds between the events of a spaced stream
_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_LINES = [
    b"data: "
    + json.dumps({**_CHUNK, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}).encode()
    + b"\n\n"
] * EVENTS
_END = (
    b"data: "
    + json.dumps({**_CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
    + b"\n\ndata: [DONE]\n\n"
)
_WHOLE = json.dumps(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 400},
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 350}, "finish_reason": "stop"}]}
).encode()  # fmt: skip


# --- the other processes ---------------------------------------------------------------------------------------------------------


async def _upstream(request: web.BaseRequest) -> web.StreamResponse:
    asked = json.loads(await request.read())
    if not asked.get("stream"):
        return web.Response(body=_WHOLE, content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for line in _LINES:
        await response.write(line)
        if asked.get("user") == "spaced":
            await asyncio.sleep(SPACE)
    await response.write(_END)
    return response


def _bare(upstream: str) -> Any:
    client: list[aiohttp.ClientSession] = []

    async def passed(request: web.BaseRequest) -> web.StreamResponse:
        if not client:
            client.append(aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)))
        path = request.raw_path.partition("/v1/")[2]
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with client[0].request(
            request.method, f"{upstream}/v1/{path}", data=await request.read(), headers=headers
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() != "transfer-encoding"}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    return passed


async def _serve(handler: Any) -> None:
    keep_buffers()
    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"url": f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"}), flush=True)  # type: ignore[union-attr]
    await asyncio.Event().wait()


@contextmanager
def _process(*argv: str) -> Iterator[tuple[str, int]]:
    """A process that prints its URL when it is ready: the URL, and its number."""
    process = subprocess.Popen([sys.executable, "-m", *argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())["url"], process.pid
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


#: LiteLLM comes with agent-lightning, whose environment `make test-all` makes.
_LITELLM = Path(__file__).parent.parent / ".venv-lightning/bin/litellm"
_KEY = "sk-" + secrets.token_hex(24)


@contextmanager
def _litellm(upstream: str, folder: Path) -> Iterator[tuple[str, int]]:
    """LiteLLM's proxy, which is ready when it says so."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    argv = [str(_LITELLM), "--model", "openai/m", "--api_base", f"{upstream}/v1", "--host", "127.0.0.1", "--port", str(port)]
    env = {
        **os.environ,
        "OPENAI_API_KEY": "k",
        "LITELLM_MASTER_KEY": _KEY,
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    process = subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(180):
            with suppress(OSError), urlopen(f"{url}/health/liveliness", timeout=5):
                break
            assert process.poll() is None, "LiteLLM's proxy did not start"
            time.sleep(1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


# --- what is measured ------------------------------------------------------------------------------------------------------------


class Load:
    """A client of one of them. `runs`: the address names a run."""

    def __init__(self, client: aiohttp.ClientSession, url: str, runs: bool) -> None:
        self._client = client
        self._url = url
        self._runs = runs
        self._count = 0

    async def call(self, stream: bool, user: str = "") -> tuple[float, float, float]:
        """Milliseconds to the first byte of the body, in all, and of the longest wait between two pieces."""
        self._count += 1
        text = f"question {self._count} " + "x" * 1000
        body = {"model": "m", "stream": stream, "user": user, "messages": [{"role": "user", "content": text}]}
        began = last = time.perf_counter()
        first, gap = 0.0, 0.0
        run = f"/t/run-{self._count % 64}" if self._runs else ""
        async with self._client.post(f"{self._url}{run}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            while await answer.content.readany():
                now = time.perf_counter()
                if not first:
                    first = now - began
                else:
                    gap = max(gap, now - last)
                last = now
        return first * 1000, (time.perf_counter() - began) * 1000, gap * 1000

    async def alone(self, count: int, stream: bool = True) -> list[float]:
        """The times to the first byte, one call after the other."""
        return [(await self.call(stream))[0] for _ in range(count)]

    async def together(self, count: int, stream: bool, user: str = "") -> tuple[list[tuple[float, float, float]], float]:
        """64 clients at once: each call's times, and calls a second."""
        left = iter(range(count))
        out: list[tuple[float, float, float]] = []

        async def one() -> None:
            for _ in left:
                out.append(await self.call(stream, user))

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(64)))
        return out, count / (time.perf_counter() - began)

    async def pauses(self, seconds: float) -> list[float]:
        """The longest wait between two events of each spaced stream, while other calls come and end."""
        stop = time.perf_counter() + seconds
        gaps: list[float] = []

        async def beside() -> None:
            while time.perf_counter() < stop:
                await self.call(False)
                await asyncio.sleep(0.02)

        async def watched() -> None:
            while time.perf_counter() < stop:
                gaps.append((await self.call(True, "spaced"))[2])

        await asyncio.gather(watched(), watched(), beside())
        return gaps


def _spent(pid: int) -> float:
    """The seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _measured(urls: dict[str, tuple[str, int]], quick: bool) -> dict[str, dict[str, float]]:
    # many short rounds, in turns: what else the machine does meets all alike, and the median leaves it out
    keep_buffers()
    rounds = 7 if quick else 9
    scale = 1 if quick else 4
    headers = {"authorization": f"Bearer {_KEY}"}
    kinds = ("rested", "first", "whole", "at_once", "spaced", "rate", "streams", "pause", "call_cpu", "stream_cpu")
    samples: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in urls}
    async with AsyncExitStack() as stack:
        loads: dict[str, Load] = {}
        for name, (url, _) in urls.items():
            idle = 2 if name == "LiteLLM" else 60  # seconds: LiteLLM's server resets a connection after 5
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=idle)
            client = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
            loads[name] = Load(client, url, name != "LiteLLM")
        for load in loads.values():
            await load.together(64, True)
        for number in range(rounds):
            for name in urls if number % 2 else reversed(urls):
                load, into, pid = loads[name], samples[name], urls[name][1]
                into["rested"].append((await load.alone(1))[0])  # the first after the turns of the others
                await load.alone(60)  # until the system has found the processes their places
                into["first"] += await load.alone(40 * scale)
                into["whole"] += await load.alone(20 * scale, False)
                waves = 2 if name == "LiteLLM" else 8  # a wave takes it 2 seconds
                took = [total for _, total, _ in (await load.together(64 * waves, True, "spaced"))[0]]
                into["at_once"] += took[:64]  # they began in the same moment
                into["spaced"] += took[64:]
                into["pause"] += await load.pauses(1)
                for rate, stream in (("rate", False), ("streams", True)):
                    count, before = 64 * scale, _spent(pid)
                    into[rate].append((await load.together(count, stream))[1])
                    into["stream_cpu" if stream else "call_cpu"].append((_spent(pid) - before) / count * 1000)
    of: dict[str, Callable[[list[float]], float]] = {"pause": lambda gaps: sorted(gaps)[int(len(gaps) * 0.99)]}
    of |= dict.fromkeys(("call_cpu", "stream_cpu"), statistics.mean)  # it is counted in hundredths of a second
    return {name: {kind: of.get(kind, statistics.median)(v) for kind, v in into.items()} for name, into in samples.items()}


def passing(bench: Any) -> None:
    """Time to the first byte, spaced streams, calls a second, and how long other streams wait for a record. For the goals one client
    calls without a rest, and 64 go on for some time. Beside them stand a first call after the turns of the others, a whole answer,
    which waits for its record, and 64 streams that begin in one moment."""
    store: Path = bench.folder()
    with ExitStack() as stack:
        direct = stack.enter_context(_process("bench.proxies", "upstream"))
        urls = {"direct": direct, "bare": stack.enter_context(_process("bench.proxies", "bare", direct[0]))}
        ours = _process("odograph", "--store", str(store), "proxy", "--upstream", direct[0], "--port", "0", "--json")
        urls["ours"] = stack.enter_context(ours)
        if _LITELLM.exists():
            urls["LiteLLM"] = stack.enter_context(_litellm(direct[0], store))
        found = asyncio.run(_measured(urls, bench.quick))
    direct_, bare_, ours_ = found["direct"], found["bare"], found["ours"]
    peer = found.get("LiteLLM")

    def add(name: str, kind: str, unit: str, of: Callable[[dict[str, float]], float], goal: str = "") -> None:
        """`goal`: such as `<= 3 ms`."""
        others = f"bare pass-through {of(bare_):,.2f}, LiteLLM " + (f"{of(peer):,.2f}" if peer else "not measured: make test-all")
        value, (sign, limit) = of(ours_), goal.split()[:2] if goal else ("", "0")
        holds = None if not goal else value <= float(limit) if sign == "<=" else value >= float(limit)
        bench.add(f"proxy: {name}", value, unit, others, ours_[kind] / max(bare_[kind], 1e-9), goal, holds)

    def added(kind: str) -> Callable[[dict[str, float]], float]:
        return lambda of: of[kind] - direct_[kind]

    def share(kind: str) -> Callable[[dict[str, float]], float]:
        return lambda of: of[kind] / direct_[kind]

    add("first byte of a stream, added", "first", "ms", added("first"), "<= 0.5 ms")
    add("first byte of a stream after a rest, added", "rested", "ms", added("rested"))
    add("first byte of a whole answer, added", "whole", "ms", added("whole"))
    add("spaced streams, 64 at a time, against direct", "spaced", "", share("spaced"), "<= 1.1")
    add("spaced streams, 64 begun at once, against direct", "at_once", "", share("at_once"))
    add("longest wait of other streams, added", "pause", "ms (p99)", added("pause"), "<= 3 ms")
    for rate, cpu, what in (("rate", "call_cpu", "calls"), ("streams", "stream_cpu", "streams")):
        add(f"recorded {what} a second", rate, "calls/s", itemgetter(rate), ">= 500")
        add(f"processor time of {what}", cpu, "ms/call", itemgetter(cpu), "<= 2 ms")


if __name__ == "__main__":
    asyncio.run(_serve(_upstream if sys.argv[1] == "upstream" else _bare(sys.argv[2])))
