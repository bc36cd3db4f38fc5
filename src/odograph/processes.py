"""Work over a store in several processes: each reopens the store, reads the trajectories that it is told of, and sends results.

Not multiprocessing: that would run the user's script again in every process (spawn), or copy its threads and connections (fork).
A batch on Ray (`runtime/on_ray.py`) uses none of this: Ray starts and restarts the workers itself, on other machines, and hands
them pickled tasks. Both kinds of workers reopen the store by its `place`. Knows nothing of the work.
"""

from __future__ import annotations

import json
import os
import pickle
import runpy
import selectors
import signal
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any

from .errors import InvalidInput, OdographError, described
from .store.backend import Place
from .store.opening import reopened
from .store.reader import Reader

#: Does the work in a process: gets the store's reader and the ids of some trajectories, gives what can be pickled.
Work = Callable[[Reader, list[str]], Any]

_PER_CORE = 8  # processes; more than these only take memory
_AHEAD = 4  # batches per process that are under way, or done and waiting for those before them
_LENGTH = struct.Struct(">Q")
_BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from odograph.processes import main; main()"
_IN_MAIN = b"\x8c\x08__main__"  # how a pickle names the module of a script


class NotSendable(InvalidInput):
    """What can't be sent to another process."""


#: What this process works at, where it is one of those that are started here.
_mine: str | None = None


def over(
    place: Place, begin: Callable[..., Work], about: Sequence[Any], ids: Iterable[str], count: int, *, batch: int, doing: str
) -> Generator[Any, None, None]:
    """What the work gives for each batch of ids, in their order, from at most `count` processes.

    `begin(*about)` makes the work in each process. `about` and the results travel pickled. `doing` says in a sentence about an
    error what a process did. At most a few batches per process are under way at once. When the iterator is closed, or Ctrl-C ends
    it, all processes end at once. Raises NotSendable for what can't be sent to another process, OdographError where a process
    died or the work raised.
    """
    may_start()
    sent = sendable((begin, about))
    head = _packed((place, (sent, script_of(sent)), doing))
    count = min(count, _PER_CORE * (os.cpu_count() or 1))
    batches = _batches(ids, batch)
    processes: list[_Process] = []
    idle: list[_Process] = []
    done: dict[int, Any] = {}
    asked = given = 0
    with selectors.DefaultSelector() as answers:
        try:
            while True:
                while asked - given < _AHEAD * count and (idle or len(processes) < count) and (some := next(batches, None)):
                    if not idle:
                        processes.append(_Process(head, doing))
                        answers.register(processes[-1].answers, selectors.EVENT_READ, processes[-1])
                        idle.append(processes[-1])
                    idle.pop().ask(asked, some)
                    asked += 1
                if given == asked:
                    return
                for key, _ in answers.select():
                    process: _Process = key.data
                    number, result = process.answer()
                    done[number] = result
                    idle.append(process)
                while given in done:
                    yield done.pop(given)
                    given += 1
        finally:
            for process in processes:
                process.stop()


def may_start() -> None:
    """Raises OdographError in a process that is at work itself: there a script runs again that starts processes."""
    if _mine is not None:
        raise OdographError(
            f"a process that {_mine} would start more processes: a script needs `if __name__ == '__main__':` around its code"
        )


def _batches(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some


class _Process:
    """One process: a batch at a time."""

    def __init__(self, head: bytes, doing: str) -> None:
        path = json.dumps([p or "." for p in sys.path])
        # a process that begins is not interrupted in the middle of its imports
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen([sys.executable, "-c", _BEGIN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._doing = doing
        self._number = 0
        self._send(head)

    @property
    def answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _send(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame)
            self._process.stdin.flush()
        except OSError:  # it died: `answer` tells
            pass

    def ask(self, number: int, ids: list[str]) -> None:
        self._number = number
        self._send(_packed(ids))

    def answer(self) -> tuple[int, Any]:
        """The number of the batch, and its result."""
        try:
            ok, result = _read(self.answers)
        except EOFError:
            raise OdographError(
                f"a process that {self._doing} died with status {self._process.wait()}; its earlier results are kept"
            ) from None
        if not ok:
            raise OdographError(f"a process that {self._doing} failed: {result}")
        return self._number, result

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def _packed(what: Any) -> bytes:
    data = pickle.dumps(what)
    return _LENGTH.pack(len(data)) + data


def _read(pipe: IO[bytes]) -> Any:
    """The next frame. Raises EOFError where there is no whole one."""
    size = pipe.read(_LENGTH.size)
    if len(size) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(size)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def sendable(what: Any) -> bytes:
    """Pickled. Raises NotSendable."""
    try:
        sent = pickle.dumps(what)
    except Exception as error:
        raise NotSendable(described(error)) from None
    script_of(sent)
    return sent


def script_of(sent: bytes) -> str | None:
    """The script in which parts of what is pickled stand. Raises NotSendable where these stand in no file."""
    if _IN_MAIN not in sent:
        return None
    script: str | None = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise NotSendable("it stands in no file")
    return os.path.abspath(script)


# --- in a process --------------------------------------------------------------------------------------------------------


def main() -> None:
    """A process: frames of ids on stdin, a frame of results for each on stdout. What the work prints goes to stderr; Ctrl-C ends
    the process at once, whatever it is at."""
    global _mine
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    work: Work | None = None
    reader: Reader | None = None
    try:
        place, (sent, script), _mine = _read(asked)
        while True:
            ids = _read(asked)
            try:
                if work is None or reader is None:
                    if script is not None:
                        stand_in(script)
                    begin, about = pickle.loads(sent)
                    work, reader = begin(*about), reopened(place).reader
                    reader.look()
                answer = _packed((True, work(reader, ids)))
            except Exception as error:
                answer = _packed((False, described(error)))
            answers.write(answer)
            answers.flush()
    except (EOFError, BrokenPipeError):  # nobody asks any more
        return


def stand_in(script: str) -> None:
    """What the asking process has in its script, under the same name."""
    module = types.ModuleType("__mp_main__")
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    module.__dict__.update(runpy.run_path(script, run_name="__mp_main__"))
