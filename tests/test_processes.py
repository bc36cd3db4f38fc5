"""Work over a store in processes: the order of results, bounds, and what is said where a process dies or can't begin."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.processes import over


def tasks(wait: float) -> Callable[[Any, list[str]], list[Any]]:
    """Work: the task of each trajectory; the first takes its time."""

    def work(reader: Any, ids: list[str]) -> list[Any]:
        found = [t.task for t in reader.read(ids)]
        if 0 in found:
            time.sleep(wait)
        print("what the work prints is no answer")
        return found

    return work


def fails(how: str) -> Callable[[Any, list[str]], Any]:
    """Work that fails at the third trajectory."""

    def work(reader: Any, ids: list[str]) -> Any:
        for t in reader.read(ids):
            if t.task == 2:
                if how == "dies":
                    os._exit(9)
                raise ValueError("two is too many")
        return ids

    return work


def filled(store: odograph.Store, count: int) -> list[str]:
    ids = []
    for n in range(count):
        with store.record(task=n) as run:
            ids.append(run.id)
    return ids


def test_results_come_in_the_order_of_what_was_asked(store: odograph.Store) -> None:
    """A batch that takes long is not overtaken; what the work prints is no answer."""
    ids = filled(store, 12)
    found = over(store.backend.place, tasks, (0.3,), ids, 2, batch=2, doing="looked")
    assert list(found) == [[n, n + 1] for n in range(0, 12, 2)]


def test_ids_are_asked_for_as_they_are_needed(store: odograph.Store) -> None:
    """A store of any size is no list of ids in memory: a few batches per process are ahead of the results."""
    ids = filled(store, 1)
    taken = 0

    def many() -> Iterator[str]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield ids[0]

    found = over(store.backend.place, tasks, (0.0,), many(), 2, batch=5, doing="looked")
    assert next(found) == [0] * 5
    assert taken <= 5 * 2 * 5
    found.close()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("dies", "a process that counted to two died with status 9; its earlier results are kept"),
        ("raises", "a process that counted to two failed: .*two is too many"),
    ],
)
def test_a_death_and_an_error_are_told(store: odograph.Store, how: str, told: str) -> None:
    """A process that dies, or whose work raises, ends the whole with a sentence; no process is left behind."""
    ids = filled(store, 6)
    with pytest.raises(odograph.OdographError, match=told):
        list(over(store.backend.place, fails, (how,), ids, 2, batch=1, doing="counted to two"))
    assert not subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "odograph.processes"], capture_output=True).stdout


SCRIPT = """
import odograph

@odograph.reward(version="1")
def half(t):
    return 0.5 * t.task

{guard}
store = odograph.open({root!r})
print(store.score(half, processes=2).scored)
"""


def test_functions_of_a_script_and_scripts_without_a_guard(store: odograph.Store, tmp_path: Path) -> None:
    """A function may stand in the script that scores; without the guard that keeps processes from starting more, a sentence says
    what is missing."""
    filled(store, 70)
    script = tmp_path / "script.py"
    guarded = SCRIPT.format(guard="if __name__ != '__main__': raise ImportError('only scores as a script')", root=str(store.root))

    def run(text: str) -> subprocess.CompletedProcess[str]:
        script.write_text(text)
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)

    body = SCRIPT.format(guard="", root=str(store.root))
    head, _, tail = body.partition("store =")
    whole = head + "if __name__ == '__main__':\n    store =" + tail.replace("\nprint", "\n    print")
    done = run(body)
    assert done.returncode == 1
    assert "a script needs `if __name__ == '__main__':`" in done.stderr
    assert "ImportError" in run(guarded).stderr
    done = run(whole)
    assert (done.returncode, done.stdout) == (0, "70\n"), done.stderr


def test_ray_that_cannot_start_is_told_in_a_sentence(tmp_path: Path) -> None:
    """A cluster that is none: nothing is begun, and what to do is said."""
    pytest.importorskip("ray")
    code = """
        import odograph
        store = odograph.open("store")
        with store.record(task="t"):
            pass
        for work in (lambda: store.validate(runner="ray"), lambda: store.export("out", to="jsonl", runner="ray")):
            try:
                work()
            except odograph.OdographError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=os.environ | {"RAY_ADDRESS": "nonsense"},
        capture_output=True,
        text=True,
    )
    said = (
        "Ray can't start, so nothing was begun: ValueError: Invalid address format: nonsense; set RAY_ADDRESS to a cluster that"
    )
    assert [line.startswith(said) for line in done.stdout.splitlines()] == [True, True], done.stderr
