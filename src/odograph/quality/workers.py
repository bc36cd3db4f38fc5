"""The checks over a store in several processes: each reads the trajectories that it is told of, and sends back what it found.

Not multiprocessing: that would run the user's script again in every worker (spawn), or copy its threads and connections (fork).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from ..errors import StoreError
from ..store.backend import Place, reopened
from ..store.filters import Filters
from .across import Facts
from .checking import Checker
from .report import Finding

_BATCH = 50  # trajectories
_PER_CORE = 8  # processes; more than these only take memory
_AHEAD = 4  # batches per worker that are under way or wait for their turn
_MAIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from odograph.quality.workers import main; main()"


class _Task(msgspec.Struct):
    place: Place
    profile: str
    ignore: list[str]
    tokenizer: str | None
    checks: list[str]


_results = msgspec.json.Decoder(list[tuple[list[Finding], Facts | None]]).decode


def main() -> None:
    """A worker: a task on the first line of stdin, then lists of ids; a line of results for each."""
    lines = sys.stdin.buffer
    task = msgspec.json.decode(lines.readline(), type=_Task)
    checker = Checker(task.profile, task.ignore, task.tokenizer, task.checks)
    reader = reopened(task.place).reader
    for line in lines:
        ids = msgspec.json.decode(line, type=list[str])
        found = reader.trajectories(Filters(ids=tuple(ids)))
        sys.stdout.buffer.write(msgspec.json.encode([checker.one(t) for t in found]) + b"\n")
        sys.stdout.buffer.flush()


class _Worker:
    def __init__(self, task: _Task) -> None:
        path = msgspec.json.encode([p or "." for p in sys.path]).decode()
        self._process = subprocess.Popen([sys.executable, "-c", _MAIN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(msgspec.json.encode(task))

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data + b"\n")
        self._process.stdin.flush()

    def ask(self, ids: list[str]) -> list[tuple[list[Finding], Facts | None]]:
        assert self._process.stdout is not None
        try:
            self._send(msgspec.json.encode(ids))
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            raise StoreError(f"a process that checked trajectories ended with status {self._process.wait()}; try workers=1")
        return _results(line)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def results(
    place: Place,
    ids: Iterator[str],
    count: int,
    *,
    profile: str,
    ignore: list[str],
    tokenizer: str | None,
    checks: list[str],
) -> Iterator[tuple[list[Finding], Facts | None]]:
    """What `Checker.one` gives for each trajectory, in their order, from `count` processes. Raises StoreError."""
    count = min(count, _PER_CORE * (os.cpu_count() or 1))
    task = _Task(place, profile, ignore, tokenizer, checks)
    idle: deque[_Worker] = deque()
    every: list[_Worker] = []
    waiting: deque[Future[Any]] = deque()

    def work(batch: list[str]) -> list[tuple[list[Finding], Facts | None]]:
        worker = idle.pop()
        found = worker.ask(batch)
        idle.append(worker)
        return found

    with ThreadPoolExecutor(count, thread_name_prefix="odograph-validate") as pool:
        try:
            for _ in range(count):
                every.append(_Worker(task))
            idle.extend(every)
            batch: list[str] = []
            for id in ids:
                batch.append(id)
                if len(batch) == _BATCH:
                    waiting.append(pool.submit(work, batch))
                    batch = []
                    if len(waiting) >= _AHEAD * count:
                        yield from waiting.popleft().result()
            if batch:
                waiting.append(pool.submit(work, batch))
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in every:
                worker.stop()
