"""Laws of recording that a small change could break unseen: names are redacted, faults withhold content, half calls leave no trace."""

from __future__ import annotations

import os
import signal
import time
from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy
import pytest

import odograph
from odograph.capture import botocore, directing, faults, lm15
from tests.programs import ran

SECRET = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0bC3dE6"


def test_an_agents_name_is_redacted(tmp_path: Any) -> None:
    """A secret in the name of an agent or sub-agent stands in no file, and the sub-agent's steps are still its own."""
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t", agent=f"boss {SECRET}") as run:
            with run.sub_agent(f"helper {SECRET}").step(observation="o") as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a")
        t = store.trajectory(run.id)
        assert t.agent == "boss [redacted:github_token]"
        assert [s.agent for s in t.steps] == ["helper [redacted:github_token]"]
        assert t.llm_calls[0].record.agent == "helper [redacted:github_token]"
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]


class Hostile(dict[str, Any]):
    """A request that fails when it is looked at, with its content in the error."""

    def items(self) -> Any:
        raise ValueError(f"can't show {SECRET}")


def test_a_fault_withholds_its_text_where_redaction_is_on(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """With `redact=`, a fault of recording names the kind of error alone: its text may hold what was to be taken out."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    with odograph.open(tmp_path, redact=True) as store:
        with store.record(task="t") as run, run.step() as step:
            before = store.health()["faults"]
            made = step.record_call({"request": Hostile(messages=[]), "response": "r"})
            assert type(made.id) is str  # what refers to it does not fail
            assert store.health()["faults"] == before + 1
            said = str(store.health()["last_fault"]) + "".join(str(w.message) for w in recwarn)
            assert "ValueError" in said
            assert SECRET not in said


def test_a_fault_raises_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ODOGRAPH_STRICT=1 a fault of recording reaches the program."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "1")
    with odograph.open("memory:", redact=True) as store, store.record(task="t") as run, pytest.raises(RuntimeError):
        run.record_call({"request": Hostile(messages=[]), "response": "r"})


OVER = """
import signal, odograph
class Over(Exception): pass
def over(*_):
    raise Over
signal.signal(signal.SIGUSR1, over)
class Long(dict):
    def items(self):
        signal.raise_signal(signal.SIGUSR1)
        return super().items()
with odograph.open("memory:", redact=True) as store, store.record(task="t") as run:
    before = store.health()["faults"]
    try:
        run.record_call({"request": Long(messages=[]), "response": "r"})
    except Over:
        print("over", store.health()["faults"] - before)
"""


def test_what_a_signals_handler_raises_is_no_fault() -> None:
    """A time limit of the program's own that is over in the middle of a record reaches the program."""
    done = ran(OVER)
    assert done.stdout == "over 0\n", done.stderr


@pytest.mark.parametrize(("redacting", "of_disk"), [(False, False), (False, True), (True, True)])
def test_a_fault_says_what_it_was_where_nothing_is_redacted(
    redacting: bool, of_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `redact=`, and where the disk is at fault, the error is told whole."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(faults, "redacting", lambda: redacting)  # which stores of other tests would be asked for
    monkeypatch.setattr(faults.faults, "told", {None, Path("store")})  # the warning has been given
    faults.fault(OSError(28, "No space left on device"), disk=Path("store") if of_disk else None)
    assert "No space left" in str(faults.faults.last)


FAULTY = """
    import sys, odograph

    class Hostile(dict):
        def items(self):
            raise ValueError("can't be read")

    with odograph.open(sys.argv[1], redact=True) as store, store.record(task="t") as run, run.step() as step:
        for _ in range(3):
            step.record_call({"request": Hostile(messages=[]), "response": "r"})
    health = store.health()
    print("went on,", health["faults"], "faults,", health["unrecorded"] + health["outside"], "others")
"""


@pytest.mark.parametrize("filters", [[], ["-W", "error"], ["-W", "always"]])
def test_a_fault_is_warned_of_once_and_never_raised(tmp_path: Any, filters: list[str]) -> None:
    """What can't be recorded is counted and warned of once; the agent goes on, also where the program makes warnings errors."""
    done = ran(FAULTY, str(tmp_path), flags=filters)
    assert (done.returncode, done.stdout) == (0, "went on, 3 faults, 0 others\n"), done.stderr
    assert done.stderr.count("odograph could not record something: RuntimeError: ValueError") == ("error" not in filters)


FULL = """
    import resource, sys, odograph

    stores = [odograph.open(f"{sys.argv[1]}/{name}") for name in "ab"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    runs = [store.record(task="t") for store in stores for _ in range(2)]
    assert all(store.health()["failure"] for store in stores)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for run in runs:
        run.finish()
    print([len(store) for store in stores])
"""


def test_each_store_whose_disk_fails_is_warned_of_once(tmp_path: Any) -> None:
    """A disk that failed is no reason to keep silent about another one."""
    done = ran(FULL, str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "[2, 2]\n"), done.stderr
    for name in "ab":
        assert (
            done.stderr.count(f"odograph could not write to {tmp_path / name / 'journal'}: OSError: [Errno 27] File too large")
            == 1
        )


class Interrupts:
    """Content at which somebody presses Ctrl-C."""

    def __repr__(self) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return "late"


def test_a_call_that_was_interrupted_leaves_no_message_behind(store: odograph.Store) -> None:
    """What an interrupted call was about to write is not taken for written: the next call that sends it is whole."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    history = [{"role": "user", "content": "first"}]
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(model="m", messages=history, response="a")
        history.append({"role": "user", "content": "second"})
        with pytest.raises(KeyboardInterrupt):
            step.llm_call(model="m", messages=history, response={"text": Interrupts()})
        history.append({"role": "user", "content": "third"})
        step.llm_call(model="m", messages=history, response="b")
    t = store.trajectory(run.id)
    assert [[m["content"] for m in c.messages] for c in t.llm_calls] == [["first"], ["first", "second", "third"]]
    assert not t.missing


def test_the_model_of_a_call_is_the_one_named_else_the_one_asked_for(store: odograph.Store) -> None:
    """`model=` goes before what the request says; without it the request's own model stands there, if that is a name."""
    asked = {"messages": [{"role": "user", "content": "q"}]}
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(request={"model": "asked", **asked}, response="a")
        step.llm_call(request={"model": "asked", **asked}, model="named", response="a")
        step.llm_call(request={"model": ["no name"], **asked}, response="a")
        step.llm_call(request="no object", response="a")
    assert [c.model for c in store.trajectory(run.id).llm_calls] == ["asked", "named", None, None]


def test_the_tokens_of_several_choices_stay_with_their_choice(store: odograph.Store) -> None:
    """Token ids and logprobs of n > 1 are given as a list of lists, both, or one of the two, or one shorter than the other."""
    both, none = [[1, 2], [3]], None
    with store.record(task="t") as run, run.step() as step:
        for ids, logprobs in (
            (both, [[-0.1, -0.2], [-0.3]]),
            (both, none),
            (none, [[-0.1], [-0.2]]),
            (both, [[-0.1, -0.2]]),
            ([[1]], [[-0.1], [-0.2]]),
        ):
            step.llm_call(model="m", prompt_token_ids=[9], token_ids=ids, logprobs=logprobs)
    found = [[(x.token_ids, x.logprobs) for x in c.record.tokens] for c in store.trajectory(run.id).llm_calls]
    assert found == [
        [([1, 2], [-0.1, -0.2]), ([3], [-0.3])],
        [([1, 2], None), ([3], None)],
        [(None, [-0.1]), (None, [-0.2])],
        [([1, 2], [-0.1, -0.2]), ([3], None)],
        [([1], [-0.1]), (None, [-0.2])],
    ]


def test_the_thread_of_a_pool_keeps_no_run(store: odograph.Store) -> None:
    """What a pool's thread did for a run is in that run; what it does next, for nobody, is in none."""
    odograph.instrument(threads=True)
    directed = directing.director.set(cast(directing.Director, object()))
    try:
        with ThreadPoolExecutor(1) as pool:
            with store.record(task="t"):
                assert pool.submit(odograph.current).result() is not None
                assert pool.submit(directing.director.get).result() is directing.director.get()
                odograph.uninstrument()  # from here on, what is given to the pool is given without the run
                assert pool.submit(odograph.current).result() is None
                assert pool.submit(directing.director.get).result() is None
    finally:
        directing.director.reset(directed)
        odograph.uninstrument()


def test_a_step_of_a_trajectory_that_can_not_be_read_is_a_fault(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late step is numbered after those that are there; where these are gone meanwhile, it is recorded, and the fault is told of."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    with odograph.open(tmp_path / "s") as store, store.record(task="t") as run:
        run.step({"x": 1})
    with odograph.open(tmp_path / "s") as store:
        late = store.append(run.id)
        for path in (tmp_path / "s" / "journal").iterdir():
            path.unlink()
        before = store.health()["faults"]
        late.step({"x": 2})
        assert store.health()["faults"] == before + 1


def test_an_edit_of_a_call_that_could_not_be_recorded_does_not_break_the_agent(store: odograph.Store) -> None:
    """Where recording the call failed, an edit of it is on record as it was asked for."""
    lost = odograph.CallRef("gone", b"")
    with store.record(task="t") as run:
        run.edit(lost).rewrite([1, 2], reason="r")
        run.edit(lost).insert(0, "new", reason="r")
    assert [(e.reason, e.base) for e in store.trajectory(run.id).edits] == [("r", "gone")] * 2


def test_what_was_moved_is_kept_once(store: odograph.Store) -> None:
    """A rewrite that says again twice what it took out keeps it once; the second time it is new."""
    with store.record(task="t") as run, run.step() as step:
        call = step.llm_call(model="m", response="abc", token_ids=[7, 8, 1, 2, 3, 4], prompt_token_ids=[5])
        step.edit(call).rewrite([1, 2, 3, 4, 7, 8, 7, 8])
    (edit,) = store.trajectory(run.id).steps[0].edits
    assert edit.result == [odograph.Kept(2, 6), odograph.Kept(0, 2), odograph.Literal(ids=[7, 8])]


def test_one_token_that_was_moved_is_kept_and_so_are_twelve_characters(store: odograph.Store) -> None:
    """What a rewrite says elsewhere again was moved: any token, and a text that is no word found twice by chance."""
    letters = "abcdefghijkl"
    with store.record(task="t") as run, run.step() as step:
        call = step.llm_call(model="m", response="abc", token_ids=[1, 2, 3, 4, 5], prompt_token_ids=[5])
        step.edit(call).rewrite([5, 1, 2, 3, 4])
        for moved in (letters, letters[1:]):
            call = step.llm_call(model="m", response=f"{moved} and what is behind of it")
            step.edit(call).rewrite(f" and what is behind of it{moved}")
    ids, long, short = store.trajectory(run.id).steps[0].edits
    assert ids.result == [odograph.Kept(4, 5), odograph.Kept(0, 4)]
    assert long.result == [odograph.Kept(12, 37), odograph.Kept(0, 12)]
    assert short.result == [odograph.Kept(11, 36), odograph.Literal(text=letters[1:])]


def test_what_a_transport_gives_that_is_no_response_is_a_fault_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer, or a request, of another shape than lm15's or botocore's passes untouched, and each fault is counted."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    request = SimpleNamespace(headers=[], url="http://h/v1/chat/completions", method="POST", body=b"{}")
    before, given = faults.faults.count, object()
    assert lm15.passed(request, lambda: given) is given
    assert lm15.passed(object(), lambda: given) is given
    assert faults.faults.count == before + 2
    assert botocore.passed(object(), lambda: given) is given
    assert faults.faults.count == before + 3


class Own:
    """A sequence of a class of its own."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_ids_and_messages_may_be_any_sequence(store: odograph.Store) -> None:
    """Tuples, arrays, queues and sequences of other classes are lists on record; what can be read once only is left to the agent."""
    ids, message = [1, 2, 3], {"role": "user", "content": "q"}
    kinds = [tuple, deque, numpy.array, Own, lambda items: dict(enumerate(items)).values(), namedtuple("Three", "a b c")._make]
    with store.record(task="t") as run, run.step() as step:
        for kind in kinds:
            step.llm_call(model="m", messages=kind([message] * 3), prompt_token_ids=kind(ids), token_ids=kind(ids), response="a")
        once = iter(ids)
        step.llm_call(model="m", token_ids=once, response="a")  # type: ignore[arg-type]
    assert next(once) == 1
    *given, _ = store.trajectory(run.id).llm_calls
    assert len(given) == len(kinds)
    for call in given:
        assert call.messages == [message] * 3
        assert call.prompt_token_ids == call.choices[0].token_ids == ids
