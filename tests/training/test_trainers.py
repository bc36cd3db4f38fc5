"""Exports in the hands of those who train on them: tests that are run by interpreters of environments that have the trainers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(folder: str, venv: str, marker: str = "not slow") -> None:
    """The tests of a folder that a marker chooses, by the interpreter of an environment that make sets up."""
    python = ROOT / venv / "bin" / "python"
    if not (ROOT / venv / ".done").exists():
        pytest.skip(f"no {venv}, or it is not complete: make {venv}/.done")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env |= {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    args = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run([*args, str(ROOT / "tests" / folder), "-m", marker], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.timeout(900)
def test_trainers_take_what_is_exported() -> None:
    """TRL, ART, verifiers and tinker load every export for them, and train on exactly the tokens that were recorded."""
    run("trainers", ".venv-trainers")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trainers_learn_from_it() -> None:
    """The training example, from rollouts to a better policy."""
    run("trainers", ".venv-trainers", "slow")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_agent_lightning_has_the_same_triplets() -> None:
    """agent-lightning's own classes read the export, as what its own adapter makes of the same calls."""
    run("lightning", ".venv-lightning")
