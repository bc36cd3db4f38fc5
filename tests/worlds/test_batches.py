"""Asking through batch endpoints, against servers that speak those of OpenAI and Anthropic."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import cut_off, until

pytest.importorskip("daft")

import odograph
from odograph import Budget, Judge
from odograph.errors import InvalidInput
from odograph.worlds import Label, LabelingConfig, LabelingProcessor, StorageConfig, SyncWorldRuntime
from tests.cli.test_label import run

from .batch_server import BatchServer
from .judge_server import Say, verdict
from .sessions import RUBRIC, recorded
from .test_labelling import trajectory

DIALECTS = ("openai.chat", "openai.responses", "anthropic.messages")


def judge(server: BatchServer, folder: Path | None, dialect: str = "openai.chat", **more: Any) -> Judge:
    url = server.url.removesuffix("/v1") if dialect.startswith("anthropic") else server.url
    about: dict[str, Any] = {"max_retries": 0, "batch": True, "batch_poll": 0.01, "journal": folder}
    return Judge("m", url, api_key="x", dialect=dialect, params={"max_tokens": 100}, **{**about, **more})


def ask(one: Judge, prompts: list[str]) -> list[Any]:
    return asyncio.run(one.ask(prompts))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prompts_are_one_job_and_paid_once(dialect: str, tmp_path: Path) -> None:
    """All prompts go into one job; each answer is kept, counts in the budget, and is never asked for again; a request that fails
    costs no other one, and is asked again later."""
    with BatchServer(lambda text: Say("broken", 500) if "bad" in text else f"answer to {text.strip()}") as server:
        one = judge(server, tmp_path, dialect, budget=Budget(calls=10))
        found = ask(one, ["a", "b", "bad", "a"])
        assert [a.text for a in found] == ["answer to a", "answer to b", None, "answer to a"]
        assert (found[2].status, found[0].cached, found[0].completion_tokens) == ("http_error", False, 10)
        assert "broken" in (found[2].error or "")
        assert len(server.jobs) == 1 and server.direct == 0 and one.budget.spent["calls"] == 2
        again = ask(judge(server, tmp_path, dialect), ["a", "b", "c"])
        assert [a.cached for a in again] == [True, True, False] and set(server.paid.values()) == {1}
        assert len(server.jobs) == 2


@pytest.mark.parametrize("dialect", ["openai.chat", "anthropic.messages"])
def test_a_job_whose_making_was_not_heard_of_is_found_again(dialect: str, tmp_path: Path) -> None:
    """The connection breaks after the provider made the job: it is found by its token, and nothing is paid twice."""
    with BatchServer(lambda text: "fine", lose=1) as server:
        assert [a.text for a in ask(judge(server, tmp_path, dialect), ["a", "b"])] == ["fine", "fine"]
        assert len(server.jobs) == 1 and set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("dialect", "when"),
    [
        ("openai.chat", "sending"),
        ("anthropic.messages", "sent"),
        pytest.param("openai.chat", "sent", marks=pytest.mark.slow),
        pytest.param("anthropic.messages", "sending", marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_leaves_its_job_to_the_next(dialect: str, when: str, tmp_path: Path) -> None:
    """SIGKILL while a job is being made, or is waited for: the next process takes the job over."""
    script = f"""
    import asyncio, os, signal
    from pathlib import Path
    from odograph.asking import batches
    from tests.worlds.test_batches import judge

    class Server: url = os.environ["BATCHES"]

    if {when!r} == "sending":
        batches.Batches._write_sent = batches.Batches._write
        def write(self, job, state):
            if state == "sent":
                os.kill(os.getpid(), signal.SIGKILL)
            self._write_sent(job, state)
        batches.Batches._write = write
    asyncio.run(judge(Server, Path({str(tmp_path)!r}), {dialect!r}).ask(["a", "b"]))
    """
    with BatchServer(lambda text: "fine", polls=10**9) as server:
        root = Path(__file__).parents[2]
        env = {**os.environ, "BATCHES": server.url, "PYTHONPATH": str(root)}
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=env)
        if when != "sending":  # where it kills itself
            until(lambda: any(job["seen"] for job in list(server.jobs.values())), process)
            process.kill()
        assert process.wait() == -signal.SIGKILL
        server.polls = 1
        found = ask(judge(server, tmp_path, dialect), ["b", "a", "c"])
        assert [a.text for a in found] == ["fine"] * 3
        assert len(server.jobs) == 2 and set(server.paid.values()) == {1}


@pytest.mark.parametrize("dialect", ["openai.chat", "anthropic.messages"])
def test_results_that_are_damaged_cost_what_they_damage(dialect: str, tmp_path: Path) -> None:
    """Results in any order, twice, with an error after an answer, of unknown questions, and lines that are none: what answers a
    question is kept; a question without an answer, or with something else in its place, is an error of its row, asked in the next job."""
    with BatchServer(lambda text: f"answer to {text.strip()}") as server:

        def spoil(job: dict[str, Any]) -> None:
            lines = [json.loads(line) for line in server.files[job["results"]].splitlines()][::-1]
            c, b, a = lines
            broken = {"response": {"status_code": 500}, "result": {"type": "errored", "error": {"message": "later"}}}
            c["response"], c["result"] = {"status_code": 200, "body": [1]}, {"type": "succeeded", "message": "hello"}
            said = [c, {**a, **broken}, b, a, {**a, **broken}, {**a, "custom_id": "of_nobody"}, ["none"]]
            server.files[job["results"]] = b"no json\n\xff\n" + b"\r\n".join(json.dumps(one).encode() for one in said)

        made = server.made
        server.made = lambda *given: (job := made(*given), len(server.jobs) == 1 and spoil(job))[0]  # type: ignore[method-assign]
        found = ask(judge(server, tmp_path, dialect), ["a", "b", "c"])
        assert [a.text for a in found] == ["answer to a", "answer to b", None]
        assert (found[2].status, "the batch's answer is none of" in (found[2].error or "")) == ("http_error", True)
        found = ask(judge(server, tmp_path, dialect), ["a", "b", "c"])
        assert [a.text for a in found] == ["answer to a", "answer to b", "answer to c"]
        assert (len(server.jobs), server.direct, [a.cached for a in found]) == (2, 0, [True, True, False])


@pytest.mark.parametrize("gone", ["jobs", "files"])
def test_a_job_that_the_provider_forgot_is_asked_again(gone: str, tmp_path: Path) -> None:
    """A job, or the file of its results, that is gone at the provider is an error of its rows once; then they are asked anew."""
    with BatchServer(lambda text: "fine", polls=10**9) as server:
        asyncio.run(cut_off(judge(server, tmp_path).ask(["a"]), lambda: [j for j in list(server.jobs.values()) if j["seen"]]))
        assert len(server.jobs) == 1
        server.polls = 0
        getattr(server, gone).clear()
        (answer,) = ask(judge(server, tmp_path), ["a"])
        assert answer.status == "http_error" and "gone at the provider" in (answer.error or "")
        assert ask(judge(server, tmp_path), ["a"])[0].text == "fine"


def test_a_budget_bounds_a_job(tmp_path: Path) -> None:
    """What the budget has no room for is not in the job; a job that is refused costs nothing."""
    with BatchServer(lambda text: "fine") as server:
        found = ask(judge(server, tmp_path, budget=Budget(calls=2)), ["a", "b", "c"])
        assert [a.status for a in found] == ["ok", "ok", "over_budget"]
        assert server.paid.total() == 2
        server.refuses = True
        refused = judge(server, tmp_path, budget=Budget(calls=5))
        (answer,) = ask(refused, ["d"])
        assert answer.status == "http_error" and "no such key" in (answer.error or "") and refused.budget.spent["calls"] == 0
        server.refuses = False
        assert ask(refused, ["d"])[0].text == "fine"
    with pytest.raises(InvalidInput, match=r"'gemini' has no batch endpoint; there are: openai\.chat"):
        Judge("m", "http://127.0.0.1:9", dialect="gemini", batch=True)


def test_a_world_and_the_command_label_by_batches(tmp_path: Path) -> None:
    """A step asks all its rows in one job; `odograph label --batch` does; a dry run says the cost and makes no job."""
    with BatchServer(lambda text: verdict("careful")) as server, SyncWorldRuntime() as runtime:
        config = LabelingConfig(base_url=server.url, api_key="x", batch=True, batch_poll=0.01)
        world = runtime.world("w", StorageConfig(tmp_path / "w"), [LabelingProcessor()], [config])
        world.spawn_many((trajectory(f"t{n}"), Label(technique="a", description="d")) for n in range(300))
        world.step()
        assert {row["label__status"] for row in world.query(Label).to_pylist()} == {"ok"} and len(server.jobs) == 1
        with odograph.open(tmp_path / "s") as store:
            for n in range(3):
                recorded(store, n)
        (tmp_path / "care.md").write_text(RUBRIC)
        args = (str(tmp_path / "care.md"), "--base-url", server.url, "--batch", "--batch-poll", "0.01", "--json")
        assert json.loads(run(tmp_path / "s", *args, "--dry-run").stdout)["estimate"]["calls"] == 3 and len(server.jobs) == 1
        found = json.loads(run(tmp_path / "s", *args).stdout)
        assert (found["statuses"], found["spent"]["calls"], found["from_journal"], len(server.jobs)) == ({"ok": 3}, 3, 0, 2)
        assert json.loads(run(tmp_path / "s", *args).stdout)["spent"]["calls"] == 0 and len(server.jobs) == 2
