"""TRL's own trainers on our exports: real steps, on exactly the tokens that were recorded."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1", CUDA_VISIBLE_DEVICES="")

import torch
from datasets import Dataset, load_dataset
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

import odograph

from .recorded import END, Rollout, model, record, rendered, tokenizer


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[odograph.Store, list[Rollout]]:
    store = odograph.open(tmp_path_factory.mktemp("recorded") / "store")
    return store, record(store)


def settings(folder: Path, rows: int, **more: Any) -> dict[str, Any]:
    """One step on all rows at once."""
    return {
        "output_dir": str(folder / "trained"),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "max_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": rows,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        **more,
    }


def watched(trainer: type, seen: list[dict[str, Any]]) -> type:
    """A trainer that remembers what its loss was computed of."""

    class Watched(trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **rest: Any) -> Any:
            seen.append({k: v.clone() if torch.is_tensor(v) else v for k, v in inputs.items()})
            return super().compute_loss(model, inputs, *args, **rest)

    return Watched


def loaded(folder: Path, tmp_path: Path) -> Dataset:
    """An export as `datasets` loads a folder."""
    return load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def took_a_step(before: Any, after: Any) -> bool:
    """Whether training changed the weights, all of them to numbers."""
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))
    return all(torch.isfinite(b).all() for _, b in pairs) and any(not torch.equal(a, b) for a, b in pairs)


def stripped(row: Any, mask: Any) -> list[int]:
    return [int(i) for i, m in zip(row, mask, strict=True) if m]


def standing(rollout: Rollout) -> tuple[list[int], list[int]]:
    """Ids and labels of a whole trajectory as it stands after edits: each response where the next prompt has it."""
    last = rollout.said[-1]
    ids = last.prompt + last.ids
    labels = [-100] * len(ids)
    for said in rollout.said:
        at = len(said.prompt)
        labels[at : at + len(said.stands)] = said.stands
        assert ids[at : at + len(said.stands)] == said.stands
    return ids, labels


@pytest.mark.parametrize(("edits", "kind"), [("imitate", "parquet"), ("env", "jsonl")])
def test_sft(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path, edits: str, kind: str) -> None:
    """`SFTTrainer` trains on exactly the labels: its loss is the mean cross-entropy of the tokens that were recorded."""
    store, rollouts = recorded
    manifest = store.export(tmp_path / "out", "trl-sft", format=kind, options={"edits": edits, "deleted": True})
    if edits == "imitate":
        expected = [standing(r) for r in rollouts]
    else:
        expected = [
            (ids, [i if m else -100 for i, m in zip(ids, mask, strict=True)]) for r in rollouts for ids, mask, _ in r.rows
        ]
    data = loaded(tmp_path / "out", tmp_path)
    seen: list[dict[str, Any]] = []
    start, policy = model(), model()
    trainer = watched(SFTTrainer, seen)(
        model=policy,
        args=SFTConfig(max_length=None, **settings(tmp_path, len(data))),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    loss = trainer.train().training_loss
    (batch,) = seen
    got = [
        (stripped(ids, mask), stripped(labels, mask))
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ]
    assert sorted(got) == sorted(expected) and (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    trained = [
        -lp for ids, labels in expected for lp, label in zip(logprobs_of(start, ids), labels[1:], strict=True) if label != -100
    ]
    assert len(trained) == manifest["samples"]["trained"] + manifest["samples"]["authored"]
    assert math.isclose(loss, sum(trained) / len(trained), rel_tol=1e-4) and took_a_step(start, policy)


def logprobs_of(of: Any, ids: list[int]) -> list[float]:
    """Of each token but the first, under what stands left of it."""
    with torch.no_grad():
        scores = of(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return [float(row[i]) for row, i in zip(scores, ids[1:], strict=True)]


def dpo(data: Dataset, tmp_path: Path) -> tuple[list[tuple[list[int], list[int]]], list[tuple[list[int], list[int]]]]:
    """One step of `DPOTrainer`; what it saw as (prompt, completion), chosen and rejected."""
    seen: list[dict[str, Any]] = []
    start, policy = model(), model()
    trainer = watched(DPOTrainer, seen)(
        model=policy,
        ref_model=model(),
        args=DPOConfig(max_length=None, **settings(tmp_path, len(data))),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    loss = trainer.train().training_loss
    assert math.isclose(loss, math.log(2), rel_tol=1e-5) and took_a_step(start, policy)  # the policy is the reference yet
    (batch,) = seen
    got = []
    for ids, mask, answer in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True):
        got.append((stripped(ids, mask & (1 - answer)), stripped(ids, answer)))
    return got[: len(data)], got[len(data) :]


def test_dpo_by_edits(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`DPOTrainer` prefers what the edit made to what was generated, after the prompt that the model saw, token for token."""
    store, rollouts = recorded
    store.export(tmp_path / "out", "trl-dpo", options={"tokenizer": tokenizer()})
    chosen, rejected = dpo(loaded(tmp_path / "out", tmp_path), tmp_path)
    edited = [said for r in rollouts for said in r.said if said.stands != said.ids]
    line = tokenizer().encode("\n")  # the template's own, after each message
    assert len(edited) == 2
    assert sorted(chosen) == sorted((said.prompt, said.stands + line) for said in edited)
    assert sorted(rejected) == sorted((said.prompt, said.ids + line) for said in edited)


def test_dpo_by_reward(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`DPOTrainer` prefers the best of a group to its worst: whole conversations, tool calls and results in their places."""
    store, rollouts = recorded
    store.export(tmp_path / "out", "trl-dpo", options={"by": "reward"})
    chosen, rejected = dpo(loaded(tmp_path / "out", tmp_path), tmp_path)
    for found, pick in ((chosen, max), (rejected, min)):
        expected = []
        for group in ("g0", "g1"):
            one = pick((r for r in rollouts if r.group == group), key=lambda r: r.reward)
            whole = rendered([*one.said[-1].messages, one.said[-1].message])
            expected.append((one.said[0].prompt, whole[len(one.said[0].prompt) :]))
        assert sorted(found) == sorted(expected)


def test_reward_model(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`RewardTrainer` takes a step on the pairs."""
    from transformers import LlamaForSequenceClassification

    store, _ = recorded
    store.export(tmp_path / "out", "trl-reward", options={"by": "reward"})
    data = loaded(tmp_path / "out", tmp_path)
    config = model().config
    config.num_labels, config.pad_token_id = 1, 0
    policy = LlamaForSequenceClassification(config)
    trainer = RewardTrainer(
        model=policy,
        args=RewardConfig(max_length=None, **settings(tmp_path, 2)),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    assert len(data) == 2 and math.isfinite(trainer.train().training_loss)


def test_kto(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`KTOTrainer` sees each call's prompt and answer as the model saw them, and which were good."""
    store, rollouts = recorded
    store.export(tmp_path / "out", "trl-kto", options={"threshold": 0.5})
    data = loaded(tmp_path / "out", tmp_path)
    seen: list[dict[str, Any]] = []
    start, policy = model(), model()
    trainer = watched(KTOTrainer, seen)(
        model=policy,
        ref_model=model(),
        args=KTOConfig(max_length=None, **settings(tmp_path, len(data))),
        train_dataset=data,
        processing_class=tokenizer(),
    )
    loss = trainer.train().training_loss
    assert math.isclose(loss, 0.5, rel_tol=1e-5) and took_a_step(start, policy)
    (batch,) = seen
    got = []
    for ids, mask, answer, label in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], batch["label"], strict=True
    ):
        got.append((stripped(ids, mask & (1 - answer)), stripped(ids, answer), bool(label)))
    expected = []
    for rollout in rollouts:
        for said in rollout.said:
            prompt = len(said.prompt)
            answered = rendered([*said.messages, said.message])[prompt:]
            assert tokenizer().decode(answered) == tokenizer().decode(said.ids) + "\n"  # its text is tokens in more than one way
            expected.append((said.prompt, answered, rollout.reward >= 0.5))
    assert sorted(got) == sorted(expected) and len(got) == 18


def test_grpo_columns_and_rollout_func(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """The columns are what a `rollout_func` gives: `GRPOTrainer` takes a step on the recorded tokens, and the advantages that it
    computes of the rewards are those that we wrote."""
    store, rollouts = recorded
    store.export(tmp_path / "out", "trl-grpo", options={"edits": "mask"})  # one row a trajectory, as TRL has it
    data = loaded(tmp_path / "out", tmp_path)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in data:
        rows.setdefault(row["group"], []).append(row)
    for row, rollout in zip(data, rollouts, strict=True):
        assert_row(row, rollout)

    def replayed(prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """What was recorded, in place of what a model would say."""
        order = {group: iter(found) for group, found in rows.items()}
        picked = [next(order[prompt]) for prompt in prompts]
        return {
            name: [row[name] for row in picked] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "reward")
        }

    def recorded_reward(completions: list[Any], reward: list[float], **_: Any) -> list[float]:
        return reward

    made: list[dict[str, Any]] = []

    class Watched(GRPOTrainer):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            made.append(super()._generate_and_score_completions(inputs))
            return made[-1]

    start, policy = model(), model()
    more = {"num_generations": 3, "steps_per_generation": 1, "shuffle_dataset": False, "max_completion_length": 400, "beta": 0.0}
    trainer = Watched(
        model=policy,
        args=GRPOConfig(**settings(tmp_path, len(data), **more)),
        reward_funcs=recorded_reward,
        train_dataset=Dataset.from_list([{"prompt": group} for group in rows]),
        rollout_func=replayed,
        processing_class=tokenizer(),
    )
    trainer.train()
    assert took_a_step(start, policy)
    batch = made[0]
    got = []
    for n in range(len(data)):
        prompt = stripped(batch["prompt_ids"][n], batch["prompt_mask"][n])
        completion = stripped(batch["completion_ids"][n], batch["completion_mask"][n])
        mask = [int(m) for m in batch["tool_mask"][n][: len(completion)]]
        got.append((prompt, completion, mask, round(float(batch["advantages"][n]), 4)))
    assert sorted(got) == sorted(
        (
            r["prompt_ids"],
            r["completion_ids"],
            r["env_mask"],
            round(next(a for a in r["advantages"] if a) if any(r["advantages"]) else 0.0, 4),
        )
        for r in data
    )


def assert_row(row: dict[str, Any], rollout: Rollout) -> None:
    """A row of `trl-grpo` under `mask`: trained is what still stands under the context that it was sampled under."""
    last = rollout.said[-1]
    ids = last.prompt + last.ids
    at = len(rollout.said[0].prompt)
    mask, logprobs = [0] * len(ids), [0.0] * len(ids)
    for said in rollout.said:
        start = len(said.prompt)
        if said.stands == said.ids:
            mask[start : start + len(said.ids)] = [1] * len(said.ids)
            logprobs[start : start + len(said.ids)] = said.logprobs
    assert (row["prompt_ids"], row["completion_ids"]) == (ids[:at], ids[at:])
    assert (row["env_mask"], row["logprobs"]) == (mask[at:], logprobs[at:])
    assert (row["trajectory"], row["reward"], row["group"]) == (rollout.id, rollout.reward, rollout.group)
    assert len(row["advantages"]) == len(row["env_mask"]) and all(
        a == 0 for a, m in zip(row["advantages"], row["env_mask"], strict=True) if not m
    )
    assert END in row["completion_ids"]


def test_async_grpo(recorded: tuple[odograph.Store, list[Rollout]], tmp_path: Path) -> None:
    """`RecordedWorker` fills the queue of TRL's asynchronous trainer. Of what TRL packs, each trained token is predicted from the
    token before it, with the recorded logprob and the advantage that TRL itself makes of the rewards; rows that are too old are
    dropped by TRL. (The trainer's own forward pass needs a GPU.)"""
    from collections import defaultdict

    from accelerate import PartialState
    from trl.experimental.async_grpo.async_grpo_trainer import DataCollatorForRollout, FixedCountBatcher, RolloutQueueDataset

    from odograph.training.formats.trl_async_grpo import RecordedWorker

    PartialState()  # TRL's logger wants it
    store, rollouts = recorded
    manifest = store.export(tmp_path / "out", "trl-async-grpo")
    data = loaded(tmp_path / "out", tmp_path)
    expected = []
    for rollout in rollouts:
        rewards = [r.reward for r in rollouts if r.group == rollout.group]
        mean = sum(rewards) / len(rewards)
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))  # as TRL's worker: of the population
        gain = (rollout.reward - mean) / (deviation + 1e-8)
        for ids, mask, logprobs in rollout.rows:
            terms = [(ids[p - 1], ids[p], logprobs[p], round(gain, 4)) for p in range(1, len(ids)) if mask[p]]
            expected.append((terms, rollout.group))

    def packed(worker: RecordedWorker, version: int, count: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        worker.start()
        metrics: dict[str, list[Any]] = defaultdict(list)
        source = RolloutQueueDataset(
            worker.rollout_buffer, lambda: version, worker.check_health, 1.0, metrics, max_staleness=3, poll_interval_s=0.01
        )
        rows = next(iter(FixedCountBatcher(source, 1, count)))
        return DataCollatorForRollout(tokenizer().pad_token_id, metrics=metrics)([rows]), metrics

    batch, metrics = packed(RecordedWorker(data, version=3), 3, len(expected))
    assert len(data) == manifest["rows"] == len(expected) and set(metrics["sample/staleness_max"]) == {3.0}
    ids, labels = batch["input_ids"][0].tolist(), batch["shift_labels"][0].tolist()
    got: dict[int, list[Any]] = {}
    columns = (batch[name][0].tolist() for name in ("segment_id", "token_index", "old_log_probs", "advantages"))
    for segment, at, logprob, gain in zip(*columns, strict=True):
        got.setdefault(segment, []).append((ids[at], labels[at], logprob, round(gain, 4)))
    assert sorted(got.values()) == sorted(terms for terms, _ in expected)
    assert sum(map(len, got.values())) == manifest["samples"]["trained"]
    assert len({row["group_id"] for row in data}) == 2
    with pytest.raises(RuntimeError, match=f"all {len(data)} recorded rows were given"):
        packed(RecordedWorker(data, version=3), 4, 1)  # 4 versions on, all are too old
