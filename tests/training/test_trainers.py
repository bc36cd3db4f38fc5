"""Exports in the hands of those who train on them: the tests of tests/trainers, run by an interpreter that has the trainers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(marker: str) -> None:
    """The tests of tests/trainers that a marker chooses.

    The interpreter: `ODOGRAPH_TRAINERS_PYTHON`, else `.venv-trainers`, which `make test` sets up.
    """
    python = Path(os.environ.get("ODOGRAPH_TRAINERS_PYTHON") or ROOT / ".venv-trainers" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"no interpreter with trainers at {python}")
    if not (ROOT / ".venv-trainers" / ".done").exists() and "ODOGRAPH_TRAINERS_PYTHON" not in os.environ:
        pytest.skip(f"the environment of {python} is not complete: make test")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env |= {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    args = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*args, str(ROOT / "tests" / "trainers"), "-m", marker],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.timeout(900)
def test_trainers_take_what_is_exported() -> None:
    """TRL, ART, verifiers and tinker load every export for them, and train on exactly the tokens that were recorded."""
    run("not slow")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trainers_learn_from_it() -> None:
    """The training example, from rollouts to a better policy."""
    run("slow")
