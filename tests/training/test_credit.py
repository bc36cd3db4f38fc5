"""What was earned where: choices of one call, calls and spans, groups of what gives rows; and what formats have a place for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.training.advantages import whitened
from odograph.training.plan import Plan, SampleOptions
from odograph.training.sample import expanded
from odograph.types import Fork, Span

from .made import lines


def rollout(store: odograph.Store, reward: float | None, *, ids: list[int] | None = None, model: str = "m", **call: Any) -> str:
    """One call, in group g."""
    with store.record(task="t", agent="a", model=model, group="g") as run:
        with run.step() as s:
            s.llm_call(model=model, prompt_token_ids=[1], token_ids=ids or [5, 6], logprobs=[-0.1] * len(ids or [5, 6]), **call)
        if reward is not None:
            run.reward(reward)
    return run.id


def test_rewarded_choices_of_a_call_are_a_group() -> None:
    """GRPO as it is sampled: four answers of one call are compared with each other, whatever the run earned."""
    for whole in (None, 5.0):
        with odograph.open("memory:") as store:
            with store.record(task="t", agent="a", model="m", group="g") as run, run.step() as s:
                call = s.llm_call(model="m", prompt_token_ids=[1], token_ids=[[10], [20], [30], [40]], logprobs=[[-0.1]] * 4)
                for choice, value in enumerate((1.0, 0.0, 0.0, 1.0)):
                    s.reward(value, name="choice", target=call, span=Span(0, 1, choice))
                if whole is not None:
                    run.reward(whole)
            rows = list(odograph.samples(list(store.trajectories()), advantage="dr_grpo"))
            assert [r.reward for r in rows] == [1.0, 0.0, 0.0, 1.0]
            assert [r.advantage for r in rows] == [0.5, -0.5, -0.5, 0.5]


def test_rewards_of_calls_and_spans_count_where_the_credit_says() -> None:
    """`per-step` adds a call's to its step and a span's to its tokens, `sum` adds all; the others leave them out and say so."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m", group="g") as run:
            with run.step() as s:
                call = s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11])
                s.reward(2.0, name="prm", target=call)
                s.reward(0.25, name="span", target=call, span=Span(1, 2))
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1, 10, 11, 5], token_ids=[20])
                s.reward(1.0, name="env")
        t = store.trajectory(run.id)
    (row,) = odograph.samples([t], credit="per-step", advantage="reward")
    assert expanded(row.advantages) == [0, 3.0, 3.25, 0, 1.0]
    (row,) = odograph.samples([t], credit="sum", advantage="reward")
    assert row.reward == 3.25
    for credit in ("trajectory", "last"):
        made = odograph.samples([t], credit=credit)
        assert [r.reward for r in made] == [1.0] and made.report.rewards_left_out == 2


@pytest.mark.parametrize("advantage", ["dr_grpo", "rloo", "grpo"])
def test_a_spans_reward_counts_where_all_returns_are_equal(advantage: str) -> None:
    """A group whose steps earned the same has no deviation: the span's tokens have its reward, centred, and the others 0."""
    with odograph.open("memory:") as store:
        for n in (0, 1):
            with store.record(task="t", agent="a", model="m", group="g") as run, run.step() as s:
                call = s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10 + n, 20, 30])
                s.reward(1.0, name="env")
                if n:
                    s.reward(0.5, name="span", target=call, span=Span(1, 3))
        found = [
            expanded(row.advantages)
            for row in odograph.samples(list(store.trajectories()), credit="per-step", advantage=advantage)
        ]
    more = 1.0 if advantage == "rloo" else 0.5
    assert found == [[0, 0, 0, 0], [0, 0, more, more]]


def test_what_gives_no_row_is_compared_with_nothing() -> None:
    """A rollout that died, and one of another model than was asked for, are in no baseline."""
    with odograph.open("memory:") as store:
        rollout(store, 1.0)
        rollout(store, 1.0)
        rollout(store, 0.5, model="other")
        with store.record(task="t", agent="a", model="m", group="g") as run:
            with run.step() as s:
                s.llm_call(model="m", messages=[{"role": "user", "content": "x"}], error="the engine died")
            run.reward(0.0)
        made = odograph.samples(list(store.trajectories()), advantage="grpo", model="m")
        assert [r.advantage for r in made] == [0.0, 0.0] and made.report.groups_without_variance == 1
        again = odograph.samples(store.groups(), advantage="grpo", model="m")
        assert [r.advantage for r in again] == [0.0, 0.0]


def test_rewards_that_differ_by_rounding_are_equal() -> None:
    """0.1 + 0.2 and 0.3 give no advantage."""
    with odograph.open("memory:") as store:
        for reward in (0.1 + 0.2, 0.3, 0.3):
            rollout(store, reward)
        made = odograph.samples(list(store.trajectories()), advantage="grpo")
        assert [r.advantage for r in made] == [0.0] * 3 and made.report.zero_advantage == 3
        assert not store.groups()["g"].varies


@pytest.mark.parametrize("to", ["verl", "slime", "art", "agent-lightning"])
@pytest.mark.parametrize("options", [{"advantage": "grpo"}, {"credit": "per-step"}, {"credit": "last"}])
def test_what_a_format_has_no_place_for_is_refused(tmp_path: Path, to: str, options: dict[str, str]) -> None:
    """Nothing that was asked for is left undone in silence."""
    with odograph.open("memory:") as store:
        rollout(store, 1.0)
        with pytest.raises(InvalidInput, match="its trainer makes advantages itself"):
            store.export(tmp_path / "o", to, **options)


@pytest.mark.parametrize("to", ["verifiers", "trl-dpo"])
def test_credit_per_step_goes_with_advantages(to: str) -> None:
    """Where a format has advantages only if they are asked for, or none, credit per step alone would change nothing."""
    with pytest.raises(InvalidInput, match="give advantage= too"):
        odograph.rows([], to=to, credit="per-step")
    with pytest.raises(InvalidInput, match="per-step' is of advantages: give advantage="):
        odograph.samples([], credit="per-step")
    with pytest.raises(InvalidInput, match="no option 'credit'"):
        odograph.rows([], to="atif", credit="sum")


def test_a_discount_goes_with_credit_per_step() -> None:
    """A discount that no credit uses is refused."""
    with pytest.raises(InvalidInput, match=r"discount=0\.5 is of later rewards"):
        odograph.samples([], discount=0.5)


def test_the_same_trajectory_twice_is_trained_once() -> None:
    """A list may name one twice: it counts once, with the reason."""
    with odograph.open("memory:") as store:
        t = store.trajectory(rollout(store, 1.0))
        for advantage in (None, "reward"):
            made = odograph.samples([t, t], advantage=advantage)
            assert len(list(made)) == 1 and made.report.left_out == {"the same trajectory again": 1} and made.report.balanced


@pytest.mark.parametrize("edits", ["env", "mask", "imitate"])
def test_a_forks_prefix_is_trained_once(edits: str) -> None:
    """By the store that the forks are of, without `parent=`; nothing counts as written by somebody else."""
    with odograph.open("memory:") as store:

        def run(calls: list[tuple[list[int], list[int]]], **about: Any) -> str:
            with store.record(task="t", agent="a", model="m", **about) as run:
                for prompt, ids in calls:
                    with run.step() as s:
                        s.llm_call(model="m", prompt_token_ids=prompt, token_ids=ids)
                        s.action("a", {}, 1)
            return run.id

        parent = run([([1], [10, 11]), ([1, 10, 11, 2], [12])])
        forks = [run([([1, 10, 11, 2], [last])], fork=Fork(parent, 1)) for last in (20, 30)]
        made = odograph.samples([store.trajectory(id) for id in forks], edits=edits)
        assert sum(m for r in made for i, m in zip(r.token_ids, r.mask, strict=True) if i == 10) == 1
        assert made.report.authored == 0 and made.report.balanced


@pytest.mark.parametrize(("edits", "trained"), [("env", 0), ("imitate", 1)])
def test_what_an_edit_put_into_a_forks_prefix_is_imitated_once(edits: str, trained: int) -> None:
    """Two forks go on from one edited answer: one row imitates the answer as edited, the other takes it as context."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as parent, parent.step() as s:
            s.edit(s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11])).replace(0, 1, [99])
        for last in (20, 30):
            with store.record(task="t", agent="a", model="m", fork=Fork(parent.id, 1)) as fork, fork.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1, 99, 11, 2], token_ids=[last])
        made = odograph.samples([t for t in store.trajectories() if t.id != parent.id], edits=edits)
        assert sum(m for r in made for i, m in zip(r.token_ids, r.mask, strict=True) if i == 99) == trained
        assert made.report.authored == trained and made.report.balanced


def test_sft_trains_what_was_sampled_but_what_was_cut(tmp_path: Path) -> None:
    """The default of trl-sft: rows of `env`; a summary deletes no answer, and what an editor took out is not shown as an example."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            with run.step() as s:
                call = s.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11, 12])
                s.edit(call).delete(1, 2)
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1, 10, 12, 5], token_ids=[20])
            with run.step() as s:
                s.llm_call(model="m", prompt_token_ids=[1, 77, 78], token_ids=[30])
        manifest = store.export(tmp_path / "o", "trl-sft", format="jsonl")
        rows = [[i for i in row["labels"] if i != -100] for row in lines(tmp_path / "o")]
        assert rows == [[10, 12], [20], [30]] and manifest["samples"]["dropped"] == {"deleted": 1}


def test_endings_are_told_apart(tmp_path: Path) -> None:
    """A run that failed or was cut is not one that ended well."""
    with odograph.open("memory:") as store:
        rollout(store, 1.0)
        with store.record(task="t", agent="a", model="m", group="g") as run:
            run.step().llm_call(model="m", prompt_token_ids=[1], token_ids=[7], logprobs=[-0.1])
            run.finish(status="failed")
        cut = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "length"}]}
        rollout(store, 1.0, response=cut)
        assert [s.ended for s in odograph.samples(store.trajectories())] == ["terminated", "failed", "truncated"]
        store.export(tmp_path / "o", "slime")
        assert [row["status"] for row in lines(tmp_path / "o")] == ["completed", "failed", "truncated"]


def test_temperatures_are_those_of_each_call(tmp_path: Path) -> None:
    """A row of two calls at two temperatures says both, token by token, and no single one."""
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m", group="g") as run:
            for prompt, ids, heat in (([1], [3], 1.0), ([1, 3, 9], [5], 0.5)):
                with run.step() as s:
                    s.llm_call(model="m", prompt_token_ids=prompt, token_ids=ids, logprobs=[-0.1], params={"temperature": heat})
            run.reward(1.0)
        store.export(tmp_path / "p", "prime-rl", advantage="reward")
        row: Any = lines(tmp_path / "p")[0]
        assert [row[3][1], row[3][3]] == [1.0, 0.5]
        (sample,) = odograph.samples(store.trajectories())
        assert sample.temperature is None


def test_images_are_kept_or_refused(tmp_path: Path) -> None:
    """verl and agent-lightning have a place for an image; the other formats of tokens give no row without it, and say so."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with odograph.open("memory:") as store:
        messages = [{"role": "user", "content": [{"type": "text", "text": "what"}, image]}]
        rollout(store, 1.0, messages=messages, response="x")
        for to in ("trl-grpo", "tinker", "prime-rl", "slime"):
            manifest = store.export(tmp_path / to, to)
            assert manifest["rows"] == 0 and any("image" in why for why in manifest["left_out"]), to
        store.export(tmp_path / "verl", "verl")
        (row,) = lines(tmp_path / "verl")
        assert row["images"] == [{"image": "data:image/png;base64,AAAA"}] and row["prompt"][0]["content"] == "what<image>"
        store.export(tmp_path / "al", "agent-lightning")
        assert "image_urls" in json.dumps(lines(tmp_path / "al"))
        store.export(tmp_path / "vf", "verifiers")
        assert image in lines(tmp_path / "vf")[0]["traces"][0]["nodes"][0]["message"]["content"]
        manifest = store.export(tmp_path / "hf", "hf", format="jsonl")  # a text has a mark in its place, and the manifest says so
        assert manifest["left_out"] == {"a part of a message that is no text": 1}
        assert lines(tmp_path / "hf")[0]["prompt"] == "what[image_url]"


def test_ids_that_are_missing_leave_the_trajectory_out() -> None:
    """Two ids of four tokens: what follows was sampled under another context."""
    with odograph.open("memory:") as store:
        t = store.trajectory(rollout(store, 1.0, usage={"prompt_tokens": 1, "completion_tokens": 4}))
        made = odograph.samples([t])
        assert list(made) == [] and made.report.left_out == {"invalid: ids_missing": 1} and made.report.balanced
        assert len(list(odograph.samples([t], include_invalid=True))) == 1


def test_arguments_are_objects_where_a_template_renders_them(tmp_path: Path) -> None:
    """TRL's templates encode arguments themselves: text would be encoded twice."""
    function = {"name": "f", "arguments": '{"a": 1}'}
    answer = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    with odograph.open("memory:") as store:
        with store.record(task="t", agent="a", model="m") as run:
            body = {"choices": [{"index": 0, "message": answer, "finish_reason": "tool_calls"}]}
            run.step().llm_call(model="m", messages=[{"role": "user", "content": "hi"}], response=body)
            run.reward(1.0)
        store.export(tmp_path / "o", "trl-kto")
        (row,) = lines(tmp_path / "o")
        assert row["completion"][0]["tool_calls"][0]["function"]["arguments"] == {"a": 1}


def test_the_options_that_type_checkers_see_are_those_that_are_taken() -> None:
    """`SampleOptions` and `Plan` have the same names; another name is a TypeError that says which there are."""
    assert set(get_type_hints(SampleOptions)) == set(Plan.__struct_fields__)
    with pytest.raises(TypeError, match="no option 'edit'; there are: edits"):
        odograph.samples([], edit="env")  # type: ignore[call-arg]


def two_rows(store: odograph.Store, reward: float) -> None:
    """A trajectory of two rows: its context was rewritten in between."""
    with store.record(task="t", agent="a", model="m", group="g") as run:
        for prompt, ids in (([1], [5, 6]), ([9, 9], [7])):
            run.step().llm_call(model="m", prompt_token_ids=prompt, token_ids=ids, logprobs=[-0.1] * len(ids))
        run.reward(reward)


def test_a_trainer_that_counts_rows_can_count_trajectories(tmp_path: Path) -> None:
    """Each row says into how many rows, and how many trained tokens, its trajectory went; with 1 / rows as the weight the mean and
    the deviation over rows are those over trajectories, so that the advantages are ours."""
    with odograph.open(tmp_path / "store") as store:
        two_rows(store, 1.0)
        for reward in (0.0, 0.5):
            rollout(store, reward)
        rows = list(odograph.samples(store.trajectories(), advantage="verl"))
        store.export(tmp_path / "verl", "verl")
    assert [(r.trajectory_rows, r.trajectory_tokens) for r in rows] == [(2, 3), (2, 3), (1, 2), (1, 2)]
    told = [row["extra_info"] for row in lines(tmp_path / "verl")]
    assert [(x["trajectory_rows"], x["trajectory_tokens"]) for x in told] == [(2, 3), (2, 3), (1, 2), (1, 2)]
    weights = [1 / r.trajectory_rows for r in rows]
    rewards = [r.reward or 0.0 for r in rows]
    mean = sum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)
    spread = sum(w * (r - mean) ** 2 for w, r in zip(weights, rewards, strict=True)) / (sum(weights) - 1)
    assert [r.advantage for r in rows] == pytest.approx([(r - mean) / (spread**0.5 + 1e-6) for r in rewards])


def test_reinforce_plus_plus_is_whitened_over_tokens() -> None:
    """The mean over all trained tokens of a batch is 0 and the variance 1; a long row counts by its tokens."""
    rewards, trained = [1.0, 0.0, 0.5], [1, 3, 4]
    found = whitened(rewards, trained)
    tokens = [a for a, n in zip(found, trained, strict=True) for _ in range(n)]
    assert sum(tokens) == pytest.approx(0.0) and sum(a * a for a in tokens) / 7 == pytest.approx(1.0)
    assert found[0] > found[2] > found[1] and whitened([1.0], [1]) == [0.0]
    with pytest.raises(InvalidInput, match="2 rewards and 1 counts of tokens"):
        whitened([1.0, 2.0], [1])


def test_one_rule_says_what_is_compared(tmp_path: Path) -> None:
    """In groups, scores, samples and exports alike: a fork is in the group that it records, a replay in none, and a trajectory that is
    still being recorded joins when it has ended, unless it is asked for."""

    @odograph.reward(per="group", version="1")
    def size(group: list[Any]) -> list[float]:
        return [float(len(group))] * len(group)

    with odograph.open(tmp_path / "store") as store:
        first = rollout(store, 0.0)
        with store.record(task="t", agent="a", model="m", group="g", fork=Fork(trajectory=first, step=0)) as fork:
            fork.step().llm_call(model="m", prompt_token_ids=[1], token_ids=[8], logprobs=[-0.1])
            fork.reward(1.0)
        with store.record(task="t", agent="a", model="m", group="g", metadata={"replay_of": first}) as replay:
            replay.step().llm_call(model="m", prompt_token_ids=[1], token_ids=[8], logprobs=[-0.1])
            replay.reward(9.0)
        running = store.record(task="t", agent="a", model="m", group="g")
        running.step().llm_call(model="m", prompt_token_ids=[1], token_ids=[9], logprobs=[-0.1])
        running.reward(5.0)
        groups = store.groups()
        assert [g.ids for g in groups] == [[first, fork.id]]
        assert groups.left_out == {"still running": 1, "a replay": 1}
        found = odograph.samples(store.trajectories(), advantage="dr_grpo", parent=store.trajectory)
        assert [(r.trajectory, r.advantage) for r in found] == [(first, -0.5), (fork.id, 0.5)]
        assert found.report.left_out == {"a replay": 1, "still running": 1}
        for to in ("trl-grpo", "verl", "slime"):
            manifest = store.export(tmp_path / to, to)
            assert manifest["samples"]["rows"] == 2 and manifest["left_out"] == {"a replay": 1, "still running": 1}, to
        assert store.export(tmp_path / "asked", "verl", status=["running", "completed"])["rows"] == 3
        assert len(next(iter(store.groups(status=["running", "completed"])))) == 3
        report = store.score(size)
        assert (report.scored, report.no_group, report.running) == (2, 1, 1)
        with running:
            pass
        assert store.score(size).scored == 3
