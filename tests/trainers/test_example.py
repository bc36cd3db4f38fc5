"""The example of docs/training.md: what it promises happens."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.training.sample import expanded

pytest.importorskip("trl")
from examples.grpo_cpu.policy import make_model, make_tokenizer
from examples.grpo_cpu.server import ModelServer

ROOT = Path(__file__).parent.parent.parent


def run(out: Path, *arguments: str, before: str = "pass") -> tuple[list[dict[str, Any]], str]:
    """What it wrote and what it said, run as a user does."""
    code = f"import runpy, sys; sys.argv = ['train', *sys.argv[1:]]; {before}; runpy.run_module('examples.grpo_cpu.train', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "--out", str(out), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((out / "rewards.json").read_text()), done.stdout


def mean(history: list[dict[str, Any]]) -> float:
    return sum(one["reward"] for one in history) / len(history)


def test_it_runs(tmp_path: Path) -> None:
    """Two iterations: rollouts recorded, rows made, a step taken on exactly these tokens; without matplotlib it says what is missing."""
    history, said = run(tmp_path, "--iterations", "2", "--attempts", "2", before="sys.modules['matplotlib'] = None")
    assert len(history) == 2 and all(one["trained"] > 0 and one["gap"] <= 1e-4 for one in history)
    assert "no plot: it needs the extra 'plot'" in said and not (tmp_path / "rewards.png").exists()
    with odograph.open(tmp_path / "store") as store:
        found = list(store.trajectories())
    assert len(found) == 16 and {t.start.policy_version for t in found} == {0, 1}
    assert all(t.reward is not None and t.group is not None for t in found)
    for row in odograph.samples(found):
        sampled_by = {version for version, trained in zip(expanded(row.versions), row.mask, strict=True) if trained}
        assert sampled_by == {next(t.start.policy_version for t in found if t.id == row.trajectory)}


def page(folder: Path, *snippets: int) -> None:
    """Runs snippets of docs/training.md and the first of docs/online.md, as they stand: with the model in a folder `policy`, and
    behind a server."""
    model, tokenizer = make_model(), make_tokenizer()
    model.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    pages = [(ROOT / "docs" / f"{name}.md").read_text() for name in ("training", "online")]
    found = [snippet for text in pages for snippet in re.findall(r"```python\n(.*?)```", text, re.S)]
    assert len(found) == 5
    with ModelServer(model, tokenizer) as server:
        env = os.environ | {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "x", "HF_HUB_OFFLINE": "1"}
        env["PYTHONPATH"] = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
        each = "import sys\nfor snippet in sys.argv[1:]: exec(snippet, {'__name__': '__main__'})"  # torch is loaded once
        programs = [found[n] for n in snippets]
        done = subprocess.run(
            [sys.executable, "-c", each, *programs], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_page_is_true(tmp_path: Path) -> None:
    """What docs/training.md records is trained, and an agent that a trainer calls gives its row."""
    page(tmp_path, 0, 1, 3)


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_the_page_goes_to_other_trainers(tmp_path: Path) -> None:
    """TRL's `SFTTrainer`, ART, verifiers and tinker take what docs/training.md recorded."""
    page(tmp_path, 0, 2)


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_it_learns(tmp_path: Path) -> None:
    """The mean reward is clearly up, the curve is drawn, and in each iteration every trained token has the logprob that the server
    recorded, to 1e-4: the server serves what was trained, and nothing shifts."""
    history, _ = run(tmp_path)
    assert mean(history[-3:]) - mean(history[:3]) > 0.3, history
    assert all(one["gap"] <= 1e-4 for one in history)
    assert (tmp_path / "rewards.png").exists() == (importlib.util.find_spec("matplotlib") is not None)
