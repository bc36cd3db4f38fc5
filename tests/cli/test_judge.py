"""`odograph judge`, as users and scripts run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import odograph
from tests.judge.made import group, judging


def run(store: Path, *args: str, check: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", "--store", str(store), "judge", *args]
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == check, (done.returncode, done.stderr, done.stdout)
    return done


def test_judge_adds_rewards_and_says_what_it_did(tmp_path: Path) -> None:
    """Scores are rewards afterwards; a second run adds nothing; `--json` has the keys that scripts rely on; text is for people."""
    hostile = "\x1b[31m43\x1b[0m"
    with odograph.open(tmp_path / "s") as store:
        ids = group(store, ["42", hostile], "g\x1b[2J")
    with judging() as server:
        url = ("--base-url", server.url + "/v1")
        first = json.loads(run(tmp_path / "s", "--model", "a", "--model", "b", "--repeats", "2", *url, "--json").stdout)
        assert len(server.requests) == 4
        text = run(tmp_path / "s", "--model", "a", "--model", "b", "--repeats", "2", *url).stdout
        assert len(server.requests) == 4
        one = run(tmp_path / "s", "--model", "a", "--absolute", "--where", "model=none", *url, "--json").stdout
        assert len(server.requests) == 4
    assert set(first) == {"judgements", "failed", "skipped", "spent", "cached", "scores", "agreement", "estimate"}
    assert set(first["judgements"][0]) == {"trajectory", "group", "judge", "score", "explanation", "scores", "criteria", "known"}
    assert first["scores"] == {ids[0]: 1.0, ids[1]: 0.0}
    assert first["agreement"] == {"krippendorff_alpha": 1.0, "mean_absolute_deviation": 0.0}
    assert json.loads(one)["judgements"] == []
    assert "\x1b" not in text
    assert "4 scores, 0 new; 0 requests" in text
    assert "Krippendorff's alpha 1.000" in text
    with odograph.open(tmp_path / "s") as store:
        assert [t.reward for t in store.trajectories()] == [1.0, 0.0]


def test_rubric_budget_and_what_could_not_be_judged(tmp_path: Path) -> None:
    """A rubric comes from a file; a budget stops, with exit status 1 and a line that says why."""
    (tmp_path / "rubric.md").write_text("Only primes.")
    with odograph.open(tmp_path / "s") as store:
        group(store, ["42", "43"], "g1")
        group(store, ["42", "7"], "g2")
    with judging() as server:
        args = ("--model", "j", "--base-url", server.url + "/v1", "--rubric", str(tmp_path / "rubric.md"))
        done = run(tmp_path / "s", *args, "--budget-calls", "1", "--param", "temperature=0", check=1)
        assert "over_budget: a budget of 1 calls" in done.stdout
        (_, request) = server.requests[0]
        assert "Only primes." in request["messages"][0]["content"]
        assert request["temperature"] == 0
        run(tmp_path / "s", *args, "--budget-cost", "1", "--prices", "1,1", "--param", "temperature=0")
        assert len(server.requests) == 2


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    """Wrong arguments, a missing rubric, a dead endpoint."""
    with odograph.open(tmp_path / "s") as store:
        group(store, ["42", "43"])
    for wrong in (
        ("--rubric", "none.md"),
        ("--prices", "x"),
        ("--budget-cost", "1"),
        ("--param", "x"),
        ("--repeats", "0"),
        ("--concurrency", "0"),
        ("--budget-calls", "-1"),
    ):
        status = 1 if wrong[0] == "--rubric" else 2  # what is not there, what can't be
        done = run(tmp_path / "s", "--model", "j", "--base-url", "http://127.0.0.1:9/v1", *wrong, check=status)
        assert done.stderr.startswith("odograph: ")
        assert done.stderr.count("\n") == 1
    without_key = run(tmp_path / "s", "--model", "j", check=2).stderr
    assert without_key.startswith("odograph: no key for https://api.openai.com/v1/chat/completions: set $OPENAI_API_KEY")
    assert run(tmp_path / "s", "--model", "j", "--dry-run").stdout.startswith("would ask 1 requests, about ")
    assert "required" in run(tmp_path / "s", check=2).stderr
