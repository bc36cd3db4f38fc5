"""The demo, and a tiny run of the benchmark: what the README promises works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .llm_server import Answer, LLMServer

ROOT = Path(__file__).parent.parent


def test_the_demo_does_the_main_job(tmp_path: Path) -> None:
    """Two workers, one killed with SIGKILL; nothing acknowledged is lost; the exports load back equal."""
    pytest.importorskip("datasets")
    done = subprocess.run(
        [sys.executable, "-m", "odograph", "demo", "-o", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    address = done.stdout.strip().rpartition("Open in a browser: file://")[2]
    page = Path(address).read_text()
    assert page.startswith("<!doctype html>") and page.count('data-name="t/') >= 100
    for part in ("was killed with SIGKILL", " 0 of them are lost", "resumes it", "the copy is equal to the store", "valid: "):
        assert part in done.stdout


def test_the_demo_says_that_a_model_does_not_answer(tmp_path: Path) -> None:
    """A key or an address that is wrong is one sentence, and no traceback of each worker."""
    pytest.importorskip("datasets")
    with LLMServer([Answer(status=401, raw=b'{"error": {"message": "no such key"}}')]) as server:
        done = subprocess.run(
            [sys.executable, "-m", "odograph", "demo", "--model", "m", "-o", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OPENAI_BASE_URL": server.url + "/v1", "OPENAI_API_KEY": "x"},
        )
    assert done.returncode == 1
    assert done.stderr.startswith("odograph: the demo's agent did not finish: ") and done.stderr.count("\n") == 1
    assert "no such key" in done.stderr


def test_the_benchmark_runs() -> None:
    """`python -m bench --json` prints figures with their ratios and budgets; nothing acknowledged is lost at kill -9."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", "crash", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    results = {r["name"]: r for r in json.loads(done.stdout)["results"]}
    assert results["lost at kill -9, odograph"]["value"] == 0
