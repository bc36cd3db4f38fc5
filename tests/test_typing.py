"""What users' type checkers see: a mistake in the name of a filter, an option or a field, or in a word of a closed set, is an error before the program runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import odograph
from odograph.capture.edits import EditArgs
from odograph.rewards.functions import FunctionArgs
from odograph.runtime.agent import AgentSettings
from odograph.runtime.response import RewardArgs
from odograph.runtime.runner import BatchArgs
from odograph.runtime.task import TaskArgs
from odograph.training.advantages import CONVENTIONS, Alias, Named, convention
from odograph.training.plan import MergedOptions, PairOptions, SampleOptions

ROOT = Path(__file__).parent.parent
RIGHT = """
from collections.abc import Iterator, Sequence
from typing import Unpack

import odograph
from odograph.trajectory import Step


def chosen(store: odograph.Store, **filters: Unpack[odograph.FilterArgs]) -> Iterator[odograph.Trajectory]:
    return store.trajectories(**filters)


@odograph.reward(per="group")
def ranked(group: Sequence[odograph.Trajectory]) -> list[float | None]:
    return [float(t.status == "completed") for t in group]


@odograph.reward(per="step")
async def each(step: Step, t: odograph.Trajectory) -> dict[str, float]:
    return {"tools": float(len(step.actions)), "of": float(len(t.steps))}


class Guesser:
    name = "guesser"

    async def begin(self, task: odograph.Task, run: odograph.Scope, past: odograph.Trajectory | None) -> dict[str, int]:
        return {"low": 0}

    async def step(self, state: dict[str, int], step: odograph.Step) -> odograph.Outcome:
        return odograph.Outcome(finished=True)


def answered(question: str) -> str:
    return question


async def main() -> None:
    store = odograph.open("memory:")
    print(store.score(ranked), store.score(each.using(weight=0.0)), store.score(lambda t: t.status == "completed"))
    print(odograph.validate(store), odograph.validate([odograph.Trajectory("x", [])]), odograph.validate({"steps": []}))
    print(odograph.Runners.sync_run("q", Guesser()), odograph.Runners.sync_run("q", answered), odograph.replay("x", answered))
    for t in chosen(store, min_reward=0.5, time_range="7d", ids=["a"], policy_version=3):
        for call in t.llm_calls:
            purpose: str = call.purpose
            cost: float | None = call.cost
            tokens: int | None = call.prompt_tokens
            print(purpose, cost, tokens, call.agent, call.usage, call.choices[0].token_ids)
        for step in t.steps:
            print(step.index, step.rewards["env"], step.actions[0].name)
    for s in store.summaries(newest_first=True, limit=5, time_range=("2026-01-01", None)):
        print(s.reward, s.started)
    print(store.count(text="needle"), store.validate(tag="a").valid, store.stats("group", agent="a").whole.reward.mean)
    print(odograph.stats(store, "group", agent="a").whole.reward.mean)
    report: odograph.ScoreReport = store.score("success", group="g1")
    groups = store.groups("task", model="m")
    print(report.ok, len(list(store.dry_run("art", group="g1"))), odograph.score(store, "success", group="g1").scored)
    print(store.export("out", to="hf", min_reward=1, include_metadata=False))
    print(store.export("out", to="trl-grpo", edits="env", groups=groups))
    odograph.export_to_huggingface(store, "out", min_reward=0.5, max_trajectories=10, time_range="7d", agent="a").upload("org/name")
    judged = await odograph.ruler(store, judge=odograph.Judge("m"), group="g1")
    print(judged.failed)
    rows: odograph.Samples = odograph.samples(store.trajectories(group="g1"), edits="env", advantage="grpo")
    for row in odograph.samples([odograph.Trajectory("x", [])], edits="mask"):
        print(row.token_ids)
    for pair in odograph.samples([odograph.Trajectory("x", [])], edits="pair"):
        print(pair.chosen)
    print(odograph.rows(odograph.Trajectory("x", []), "verl", data_source="d", edits="mask", options={"mine": 1}))
    agent = odograph.Agent(model="m")
    task = odograph.Task("q", agent)
    response = (await odograph.Runners.run_task(task, max_concurrency=8))[task.id]
    print(response.answer, response.edit(on="text").replace(0, 1, "a", reason="r"), response.edit(result=[odograph.Kept(0, 1)]))
    for response in (await odograph.Runners.run_task([task], attempts=8, reward=lambda t: 1.0))[task.id]:
        print(response.reward(1.0, step=0, source="judge"))
    print((await odograph.Runners.run("q", agent, group="g", tags=["a"])).answer, odograph.Runners.sync_run_task(task)["q"].status)
    with store.record("q") as run, run.step() as now, now.acting("look", {}, tool_call_id="1", metadata={}) as action:
        action.result = now.edit(now.llm_call("m"), [odograph.Kept(0, 1)]).upper()
    odograph.samples(store.trajectories(status=["failed", "running"]), edits={"other": "mask"}, credit="last")
    print(store.groups("scenario"), store.groups(lambda s: s.agent), store.compare("a", "b", by="world"), store.frame("facts"))
    print(list(rows), rows.report, store.health()["lost"] + store.health()["unshipped"])
    print(await odograph.fork("x", at_step=1, model="m", params={"seed": 1}, on_answer=None, store=store))
    print(odograph.Agent(model="m").replace(model="n", system_prompt="be brief", tools=[print], max_steps=3))
"""
HEAD = """
import odograph

store = odograph.open("memory:")
t = store.trajectory("x")
call = t.llm_calls[0]
"""
WRONG = """\
store.trajectories(min_rewards=1)
store.trajectories(min_reward="much")
store.summaries(grup="g")
store.count(modell="m")
store.groups("task", grup="g")
store.score("success", statuss="completed")
store.validate(tags="a")
store.stats("group", agents="a")
store.dry_run("art", grup="g")
store.export("out", to="hf", min_rewards=1)
store.export("out", to="trl-grpo", edit="env")
odograph.stats(store, "group", agents="a")
odograph.score(store, "success", grup="g")
odograph.export_to_huggingface(store, "out", min_rewards=1)
print(odograph.ruler(store, judge=odograph.Judge("m"), grup="g"))
print(call.purpos)
print(call.purpose + 1)
print(t.rewrd)
print(t.steps[0].action)
print(odograph.sampels)
odograph.samples([t], edits="envv")
odograph.samples([t], edits={"other": "pair"})
odograph.samples([t], credit="x")
odograph.samples([t], too_long="cut")
odograph.samples([t], advantage="gpro")
store.export("out", to="trl-grpo", edits="envv")
store.trajectories(status="done")
store.count(status=["failed", "done"])
store.validate(profile="rll")
odograph.validate(t, profile="rll")
store.score("success", runner="rai")
store.groups("scenarios")
store.stats("modell")
store.compare("a", "b", by="modell")
store.frame("record")
odograph.open("memory:", durability="none")
store.append("x").reward(1.0, source="envv")
store.append("x").finish(status="done")
store.append("x").edit(call, channel="contents")
store.append("x").edit(call, on="token")
store.append("x").llm_call(logprobs_of="sample")
odograph.reward(per="turn")
odograph.reward(source="envv")
odograph.fork("x", sytem_prompt="be brief")
odograph.fork("x", max_steps="3")
odograph.Agent(model="m").replace(tool=[print])
odograph.Runners.sync_run("q", odograph.Agent(model="m"), grup="g")
odograph.Runners.sync_run("q", odograph.Agent(model="m")).anwser
odograph.Runners.sync_run_task(odograph.Task("q"), runner="rai")
odograph.Runners.sync_run_task(odograph.Task("q"), max_concurency=3)
odograph.Runners.sync_run_task(odograph.Task("q"))["q"].anwser
print(odograph.Runners.run_task(odograph.Task("q"), attempts="3"))
odograph.Runners.sync_run_task(odograph.Task("q"), attempts=3)["q"].answer
odograph.Runners.sync_run_task(odograph.Task("q"), attempts=3)["q"][0].anwser
store.validate(checks=[3])
store.world("q", hooks=[print])
print(odograph.replay("x", tools="recordd"))
next(iter(odograph.samples([t]))).token_idz
next(iter(odograph.samples([t], edits="pair"))).token_ids
odograph.rows(t, "verl", edit="mask")
odograph.reward_function("short", len, pr="step")
store.export("out", to="hf", format="parket")
odograph.export_to_huggingface(store, "out", format="json")
store.append("x").acting("look", tool_call="1")
store.health()["writen"]
store.append("x").edit(call).delet(0, 1)
store.append("x").edit(call).delete(0, 1, reasn="r")
store.score(5)
store.score(lambda t: t.rewrd)
odograph.score(store, lambda t: str(t.reward))
odograph.reward(lambda t: "good")
odograph.validate(5)
odograph.Runners.sync_run("q", "solver")
odograph.fork("x", agent="solver")
print(odograph.replay("x", 5))
print(odograph.Runners.run_task(odograph.Task("q"), reward=lambda t: "good"))
""".splitlines()


def reported(checker: list[str], folder: Path) -> tuple[set[int], set[int], str]:
    """The lines of the right and of the wrong script that a checker reports, and all that it says."""
    scripts = [str(folder / name) for name in ("right.py", "wrong.py")]
    done = subprocess.run([sys.executable, "-m", *checker, *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    lines: dict[str, set[int]] = {"right": set(), "wrong": set()}
    for name, line in re.findall(r"(right|wrong)\.py:(\d+):(?:\d+)?.*?error", done.stdout):
        lines[name].add(int(line))
    return lines["right"], lines["wrong"], done.stdout + done.stderr


@pytest.mark.parametrize("checker", [["mypy"], ["pyright", "--pythonpath", sys.executable]], ids=["mypy", "pyright"])
def test_mistakes_are_seen_by_type_checkers(checker: list[str], tmp_path: Path) -> None:
    """mypy and pyright report every line of a script with a misspelt filter, option, field or value of a closed set, and nothing in a right script."""
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(HEAD + "\n".join(WRONG) + "\n")
    right, wrong, said = reported(checker, tmp_path)
    first = HEAD.count("\n") + 1
    missed = [line for number, line in enumerate(WRONG, first) if number not in wrong]
    assert (right, missed, wrong - set(range(first, first + len(WRONG)))) == (set(), [], set()), said


def test_conventions_have_the_names_that_checkers_know() -> None:
    """Each name of a convention of advantages that a type checker accepts, Odograph accepts, and the other way round."""
    assert set(get_args(Named)) == set(CONVENTIONS)
    assert {convention(alias).name for alias in get_args(Alias)} <= set(CONVENTIONS)


KEYWORDS: list[tuple[Any, Callable[..., Any], str]] = [
    (AgentSettings, odograph.Agent.__init__, "model"),
    (TaskArgs, odograph.Task.__init__, "input agent conf"),
    (BatchArgs, odograph.Runners.run_task, "task attempts"),
    (RewardArgs, odograph.Step.reward, "value name"),
    (EditArgs, odograph.Step.edit, "call result"),
    (FunctionArgs, odograph.RewardFunction.__init__, "compute name parameters"),
]


@pytest.mark.parametrize(("listed", "taken", "beside"), KEYWORDS, ids=lambda value: getattr(value, "__name__", ""))
def test_keywords_that_are_passed_on_are_one_list(listed: Any, taken: Callable[..., Any], beside: str) -> None:
    """What a type checker accepts where keywords are passed on is what the function takes that they go to, with the same types."""
    made = get_type_hints(taken)
    assert get_type_hints(listed) == {name: made[name] for name in made if name not in (*beside.split(), "return")}


def test_samples_and_pairs_are_built_by_the_same_options() -> None:
    """The lists of options by which a type checker tells samples from pairs have the same names as the list of both."""
    assert MergedOptions.__annotations__.keys() == PairOptions.__annotations__.keys() == SampleOptions.__annotations__.keys()
