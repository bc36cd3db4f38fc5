"""Harbor trial folders: `result.json` of a trial, what its agent wrote, and the verifier's verdict. One trajectory a trial.

The trajectory is the agent's own ATIF file (`agent/trajectory.json`), or another session below `agent/` that one of the other
formats reads. The trial adds its task, its rewards (`verifier_result.rewards`, else `verifier/reward.json` or `reward.txt`) and
how it ended. Where the agent wrote nothing that can be read, task, rewards and end are what is known. A trial of several steps
has a folder, a verdict and a trajectory for each step (`steps/<name>`, `step_results`).

Source: the layout of laude-institute/harbor's trials.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import dicts, integer, items, number, obj, score, text, without
from ...types import End, LLMCall, Reward, Start, Status, Tokens
from .. import peek
from ..session import Session, parse_time

NAME = "harbor"
_NOT_THE_AGENTS = ("Environment", "Sandbox", "Healthcheck")


def recognise(path: Path, head: bytes) -> bool:
    """A folder whose `result.json` names a task and a trial, beside the agent's or the verifier's folder."""
    if head or not path.is_dir() or not (path / "result.json").is_file():
        return False
    inside = any((path / name).is_dir() for name in ("agent", "verifier", "steps"))
    return inside and {"task_name", "trial_name"} <= _json(path / "result.json").keys()


def _json(path: Path) -> dict[str, Any]:
    try:
        return obj(loads(path.read_bytes()))
    except (OSError, InvalidInput):
        return {}


def read(path: Path) -> Iterator[Session]:
    """The session of a trial's folder. Raises InvalidInput where it is none."""
    result = _json(path / "result.json")
    if not result:
        raise InvalidInput("a Harbor trial without a readable result.json")
    steps = dicts(result.get("step_results"))
    for step in steps:
        name = text(step.get("step_name")) or ""
        if name and "/" not in name and name != "..":
            # the trial's own verdict is made of those of its steps, and stays with the trial
            about = {"trial_verdict": result.get("verifier_result"), **without(result, "step_results"), **step}
            yield from _run(path / "steps" / name, about, name)
    if not steps:
        yield from _run(path, result, None)


def _run(path: Path, result: dict[str, Any], step: str | None) -> Iterator[Session]:
    """What an agent did in a trial, or in a step of one."""
    sessions = _sessions(path / "agent")
    session = sessions[0] if sessions else _empty(path, result, step)
    _trial(session, path, result, step)
    yield session
    yield from sessions[1:]


def _sessions(folder: Path) -> list[Session]:
    """What the agent wrote: its ATIF trajectory, else the session files of the agents that we read."""
    from . import atif, claude_code, codex, gemini_cli, mini_swe_agent, openhands

    readers: tuple[tuple[Any, str], ...] = (
        (atif, "trajectory.json"),
        (claude_code, "sessions/projects/*/*.jsonl"),
        (codex, "sessions/*/*/*/*.jsonl"),
        (mini_swe_agent, "*trajectory.json"),
        (openhands, "*trajectory.json"),
        (gemini_cli, "*trajectory.json"),
    )
    for importer, pattern in readers:
        found: list[Session] = []
        for file in peek.files_in(folder, pattern):
            with contextlib.suppress(InvalidInput), file.open("rb") as opened:
                if importer.recognise(file, opened.read(64 * 1024)):
                    found += importer.read(file)
        if found:
            return found
    return []


def _empty(path: Path, result: dict[str, Any], step: str | None) -> Session:
    started = parse_time(result.get("started_at"))
    key = (result.get("id"), result.get("trial_name"), content_hash(result.get("task_id")), *([] if step is None else [step]))
    session = Session(NAME, *key, started=started)
    about = obj(result.get("agent_info"))
    model = obj(about.get("model_info"))
    spent = obj(result.get("agent_result"))
    used = (("prompt_tokens", spent.get("n_input_tokens")), ("completion_tokens", spent.get("n_output_tokens")))
    totals = {name: count for name, given in used if (count := integer(given)) is not None}
    session.add(
        Start(
            agent=text(about.get("name")) or NAME,
            agent_version=text(about.get("version")),
            model=text(model.get("name")),
            metadata={"source": {"format": NAME, "path": path.name, "session": result.get("trial_name"), "totals": totals}},
            source_time=started,
        ),
        "start",
    )
    session.warn("the agent wrote no session that can be read")
    return session


def _trial(session: Session, path: Path, result: dict[str, Any], step: str | None) -> None:
    start = next((r for r in session.records if isinstance(r, Start)), None)
    if start is not None:
        source = {**start.metadata.get("source", {}), "trial": without(result, "verifier_result", "exception_info")}
        instruction = path / "agent" / "instruction.md"
        task = start.task
        if task is None and instruction.is_file():
            task = instruction.read_text("utf-8", "replace")
        ran = obj(result.get("agent_execution"))
        changes = {
            "group": start.group or text(result.get("task_name")),
            "metadata": {**start.metadata, "source": source},
            "task": task,
            "source_time": start.source_time or parse_time(ran.get("started_at")) or parse_time(result.get("started_at")),
        }
        session.replace(start, **changes)
    verdicts = _rewards(path, result).items()
    of = () if step is None else (step,)
    session.score(*((Reward(name=n, value=score(v), source="environment"), ("verdict", *of, n)) for n, v in verdicts))
    failure = obj(result.get("exception_info"))
    spent = obj(result.get("agent_result"))
    _token_ids(session, dicts(spent.get("rollout_details")))
    end = next((r for r in session.records if isinstance(r, End)), None)
    metrics: dict[str, Any] = {**(end.metrics if end else {})}
    for name, known in (("cost", number(spent.get("cost_usd"))), ("trial_prompt_tokens", integer(spent.get("n_input_tokens")))):
        if known is not None:
            metrics.setdefault(name, known)
    status: Status = end.status if end else "completed"
    if failure:
        kind = str(failure.get("exception_type"))
        status = "timeout" if "Timeout" in kind else "cancelled" if "Cancel" in kind else "failed"
        policy = obj(failure.get("policy"))  # newer versions say which failures are not the agent's
        if kind.startswith(_NOT_THE_AGENTS) or (policy.get("should_grade") is False and policy.get("should_retry") is True):
            metrics["status"] = "error_environment"
    error = failure or (end.error if end else None)
    stopped = parse_time(obj(result.get("agent_execution")).get("finished_at")) or parse_time(result.get("finished_at"))
    if end is not None:
        session.replace(end, status=status, error=error, metrics=metrics, source_time=end.source_time or stopped)
    else:
        session.add(End(status=status, error=error, metrics=metrics, source_time=stopped), "end")


def _token_ids(session: Session, details: list[dict[str, Any]]) -> None:
    """Puts the ids that a model was sent and gave on the calls of the trial's agent, whose details come first: a list for each of
    its calls."""
    made = details[0] if details else {}
    lists = [items(made.get(name)) for name in ("prompt_token_ids", "completion_token_ids", "logprobs")]
    calls = [r for r in session.records if isinstance(r, LLMCall) and r.agent is None]
    if not lists[1] or not calls or any(call.tokens for call in calls):
        return
    if len(lists[1]) != len(calls):
        session.warn("token ids whose calls are not told", len(lists[1]))
        return
    for place, call in enumerate(calls):
        asked, ids, probs = (items(one[place]) if place < len(one) else [] for one in lists)
        tokens = Tokens(token_ids=ids, logprobs=probs if len(probs) == len(ids) else None)
        session.replace(call, prompt_token_ids=asked or None, tokens=[tokens])


def _rewards(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The verdict: of `result.json`, else of the file that the verifier wrote."""
    found = obj(obj(result.get("verifier_result")).get("rewards"))
    if found:
        return {str(k): v for k, v in found.items()}
    written = _json(path / "verifier" / "reward.json")
    if written:
        return {str(k): v for k, v in written.items()}
    try:
        said = (path / "verifier" / "reward.txt").read_text("utf-8", "replace").strip()
        return {"reward": msgspec.json.decode(said)} if said else {}
    except (OSError, msgspec.DecodeError):
        return {}
