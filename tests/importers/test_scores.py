"""Which of the scores that a source gives a run is its reward: one rule for all importers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph

from .test_openhands import v0, v0_line

SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WHEN = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:02Z"}


def inspect(scores: dict[str, float]) -> tuple[str, Any]:
    sample = {
        "id": "s",
        "epoch": 1,
        "input": "q",
        "target": "",
        "messages": SAID,
        "scores": {n: {"value": v} for n, v in scores.items()},
    }
    return "log.json", {
        "version": 2,
        "status": "success",
        "eval": {"run_id": "r", "task": "t", "model": "m"},
        "plan": {},
        "samples": [sample],
    }


def harbor(scores: dict[str, float]) -> tuple[str, Any]:
    return "trial/result.json", {
        "trial_name": "n",
        "task_name": "t",
        "verifier_result": {"rewards": scores},
        "agent_info": {"name": "a"},
    }


def openhands(scores: dict[str, float]) -> tuple[str, Any]:
    return "output.jsonl", v0_line(v0(), **scores)


def langfuse(scores: dict[str, float]) -> tuple[str, Any]:
    given = [{"id": n, "name": n, "value": v, "source": "API"} for n, v in scores.items()]
    generation = {"id": "g", "traceId": "t", "type": "GENERATION", "model": "m", "input": json.dumps(SAID[:1]), "output": json.dumps(SAID[1]), **WHEN}  # fmt: skip
    return "trace.json", {"trace": {"id": "t", "projectId": "p", "name": "n", "scores": given}, "observations": [generation]}


def mlflow(scores: dict[str, float]) -> tuple[str, Any]:
    given = [{"assessment_name": n, "source": {"source_type": "CODE"}, "feedback": {"value": v}} for n, v in scores.items()]
    info = {"trace_id": "tr-1", "trace_metadata": {}, "tags": {}, "assessments": given}
    span = {
        "trace_id": "t", "span_id": "s", "parent_span_id": None, "name": "n", "start_time_unix_nano": 1, "end_time_unix_nano": 2, "events": [],
        "status": {"code": "STATUS_CODE_OK"},
        "attributes": {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanInputs": json.dumps({"messages": SAID[:1]}), "mlflow.spanOutputs": json.dumps("a")},
    }  # fmt: skip
    return "trace.json", {"info": info, "data": {"spans": [span]}}


SOURCES: dict[str, Callable[[dict[str, float]], tuple[str, Any]]] = {
    "inspect": inspect, "harbor": harbor, "openhands": openhands, "langfuse": langfuse, "mlflow": mlflow,
}  # fmt: skip
#: The scores that a source gives, and the run's reward.
RULE: list[tuple[dict[str, float], float | None]] = [
    ({"resolved": 1}, 1.0),
    ({"resolved": 1, "correct": 0.5}, None),
    ({"reward": 0.25, "resolved": 1, "correct": 0.5}, 0.25),
]


#: Lines of OpenHands hold no score that is named `reward`.
CASES = [(source, *rule) for source in SOURCES for rule in RULE if source != "openhands" or "reward" not in rule[0]]


@pytest.mark.parametrize(("source", "scores", "reward"), CASES)
def test_one_score_is_the_reward(
    store: odograph.Store, tmp_path: Path, source: str, scores: dict[str, float], reward: float | None
) -> None:
    """The only score is the reward, and else the one that is named so; unlike scores are never summed. All are kept by name."""
    name, value = SOURCES[source](scores)
    path = tmp_path / name
    (path.parent / "verifier").mkdir(parents=True)
    path.write_text(json.dumps(value) + "\n")
    report = store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    assert ({n: t.rewards[n] for n in scores}, t.reward) == (scores, reward)
    warned = any("none of which counts" in reason for warning in report.warnings for reason in warning)
    assert warned == (reward is None)


def test_a_verdict_of_the_environment_counts_before_an_opinion(store: odograph.Store, tmp_path: Path) -> None:
    """What a benchmark found is the reward, whatever a model said of it."""
    name, value = openhands({"resolved": 0, "success": 1})
    (tmp_path / name).write_text(json.dumps(value) + "\n")
    store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    assert (t.reward, t.rewards["success"]) == (0.0, 1.0)


@pytest.mark.parametrize("source", ["langfuse", "mlflow"])
def test_a_word_is_no_score_that_counts(store: odograph.Store, tmp_path: Path, source: str) -> None:
    """A verdict in words is kept, and does not keep the only number from being the reward."""
    name, value = SOURCES[source]({"correct": 1.0})
    if source == "langfuse":
        value["trace"]["scores"].append({"id": "w", "name": "tone", "value": None, "stringValue": "kind", "source": "ANNOTATION"})
        value["observations"][0]["calculatedTotalCost"] = 0.25  # what older versions call it
    else:
        value["info"]["assessments"].append({"assessment_name": "tone", "source": {"source_type": "HUMAN"}, "feedback": {"value": "kind"}})  # fmt: skip
    (tmp_path / name).write_text(json.dumps(value) + "\n")
    report = store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    assert (t.reward, report.warnings) == (1.0, [])
    assert "kind" in json.dumps(t.to_dict())
    assert t.llm_calls[0].cost == (0.25 if source == "langfuse" else None)


def test_a_cut_file_of_spans_says_where(store: odograph.Store, tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(json.dumps(langfuse({"a": 1.0})[1])[:-9])
    (failed,) = store.import_sessions(tmp_path / "trace.json").failed
    assert "damaged JSON at character" in failed["error"]
