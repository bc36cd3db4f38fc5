"""The proof that nothing shifts by one: what a model server said of its tokens is what the model says of them where they are trained.

The way that rollouts take is the whole one: a server on a socket, `odograph.wrap` or an `Agent`, a store, samples, the export as
Parquet read back by `datasets`, TRL. The largest difference of all trained tokens counts, never a mean. Each claim has controls that
have to fail: a proof that can't is none.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph import Runners, Task, TaskConfig
from odograph.training.formats import trl_grpo
from odograph.training.sample import Sample, expanded

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
import openai  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from examples.grpo_cpu import train as example  # noqa: E402
from examples.grpo_cpu.policy import LOOK, WORDS, answer_of, make_model, make_tokenizer  # noqa: E402
from examples.grpo_cpu.server import ModelServer  # noqa: E402
from odograph.training.replay_trainer import RecordedGRPOTrainer, completion  # noqa: E402

NEXT_TO_NOTHING, MUCH = 1e-4, 0.1  # nats

MODEL = make_model(seed=3)
TOKENIZER = make_tokenizer()


@pytest.fixture
def url() -> Iterator[str]:
    """A model server with the model that is trained."""
    torch.set_num_threads(1)
    with ModelServer(MODEL, TOKENIZER, seed=5) as server:
        yield server.url


# --- rollouts ---------------------------------------------------------------------------------------------------------------


@odograph.edit(reason="another first word")
def other_first_word(ids: list[int]) -> list[int]:
    """What the agent does to a response before it goes on: all behind the first word is kept, and is stale."""
    return [WORDS.index("green" if WORDS[ids[0]] != "green" else "red"), *ids[1:]]


def talk(
    scope: Any, client: Any, *, turns: int = 3, edited: bool = False, forgets: int | None = None, temperature: float = 1.0
) -> None:
    """A conversation; with `edited` the first answer is another than the model gave, before the turn `forgets` only the question
    and the last answer are kept. `scope` is a run, or an agent in one."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "which colour"}]
    for turn in range(turns):
        if turn == forgets:
            messages = [messages[0], *messages[-2:]]
        with scope.step() as step:
            reply = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8, temperature=temperature)
            ids = reply.choices[0].token_ids
            if edited and turn == 0:
                ids = other_first_word(ids)
            text, asks = answer_of([WORDS[i] for i in ids])
            call = {"id": f"c{turn}", "type": "function", "function": {"name": LOOK, "arguments": "{}"}}
            said = {"role": "assistant", "content": text} | ({"tool_calls": [call]} if asks else {})
            told = (
                {"role": "tool", "tool_call_id": f"c{turn}", "content": "red"} if asks else {"role": "user", "content": "which"}
            )
            messages = [*messages, said, told]
            step.reward(random.Random(reply.id).random(), name="step")


def conversations(store: odograph.Store, url: str, *, count: int = 16, helper: bool = False, **how: Any) -> None:
    """Conversations of one group, by a wrapped SDK client; with `helper` an agent in each asks another one, in a conversation of
    its own."""
    with openai.OpenAI(base_url=url, api_key="none") as inner:
        client = odograph.wrap(inner, tokens=True)
        for number in range(count):
            with store.record(task="talk", agent="talker", model="tiny", group="g") as run:
                talk(run, client, **how)
                if helper:
                    with run.step() as step, step.acting("delegate", {}) as action:
                        talk(action.sub_agent("helper"), client, **how)
                run.reward(float(number % 3), name="made up")


def looking(store: odograph.Store, url: str) -> None:
    """The example's agent, with a tool, under the runtime."""

    async def all_of_them() -> None:
        tasks = [
            Task(input="which colour", agent=example.looker(c, url, 0), conf=TaskConfig(max_steps=3)) for c in ("red", "blue")
        ]
        found = await Runners.run_task(tasks, store=store, attempts=32, max_concurrency=1)
        for n, response in enumerate(r for many in found.values() for r in many):
            response.reward(float(n % 3), name="made up")

    asyncio.run(all_of_them())
    assert any(t.actions and len(t.llm_calls) > 1 for t in store.trajectories()), "nobody used the tool"


Case = tuple[Callable[..., None], dict[str, Any], dict[str, Any]]
#: How it is recorded, and how samples are built of it.
CASES: dict[str, Case] = {
    "without edits": (conversations, {}, {}),
    "an edit under env": (conversations, {"edited": True}, {"edits": "env"}),
    "an edit under mask": (conversations, {"edited": True}, {"edits": "mask"}),
    "turns and a tool": (looking, {}, {}),
    "temperature 0.7": (conversations, {"temperature": 0.7}, {}),
    "too long, split": (conversations, {"turns": 4}, {"max_tokens": 32, "too_long": "split"}),
    "too long, split, edited": (
        conversations,
        {"turns": 6, "edited": True, "forgets": 4},
        {"edits": {"declared": "mask", "other": "env"}, "max_tokens": 36, "too_long": "split"},
    ),
    "several agents": (conversations, {"helper": True, "turns": 2, "edited": True}, {"edits": "mask"}),
    "credit per step": (conversations, {"edited": True}, {"credit": "per-step", "edits": "mask"}),
}


# --- two ways to look -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def gap(rows: list[Sample], temperature: float = 1.0) -> float:
    """The largest |recorded - computed| of all trained tokens, by a forward pass of each row alone: no trainer, no padding."""
    worst = 0.0
    for row in rows:
        logprobs = torch.log_softmax(MODEL(torch.tensor([row.token_ids])).logits[0].float() / temperature, -1)
        for at, trained in enumerate(row.mask):
            if trained:
                recorded = row.logprobs[at]
                assert recorded is not None, "a trained token without a logprob"
                worst = max(worst, abs(recorded - float(logprobs[at - 1, row.token_ids[at]])))
    return worst


def trained(rows: Any, folder: Path, temperature: float = 1.0) -> Any:
    """TRL on rows, with learning rate 0, so that every batch meets the same weights."""
    args = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=16,
        steps_per_generation=1,
        num_generations=2,
        num_train_epochs=1,
        learning_rate=0.0,
        temperature=temperature,
        beta=0.0,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = RecordedGRPOTrainer(model=copy.deepcopy(MODEL), args=args, rows=rows, processing_class=TOKENIZER)
    trainer.train()
    return trainer


def changed(row: Sample, logprobs: list[float]) -> Sample:
    """A row with other logprobs of its trained tokens."""
    new = iter(logprobs)
    return msgspec.structs.replace(row, logprobs=[next(new) if m else p for p, m in zip(row.logprobs, row.mask, strict=True)])


def recorded(row: Sample) -> list[Any]:
    return [p for p, m in zip(row.logprobs, row.mask, strict=True) if m]


def shifted(row: Sample) -> Sample:
    """A row whose logprobs are all one further to the right."""
    logprobs = recorded(row)
    return changed(row, logprobs[-1:] + logprobs[:-1])


def garbage(row: Sample) -> Sample:
    chance = random.Random(1)
    return changed(row, [-5 * chance.random() for _ in recorded(row)])


# --- the proof --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_nothing_shifts_by_one(case: str, url: str, tmp_path: Path) -> None:
    """Every trained token has the logprob that the server recorded, to 1e-4, in a plain forward pass and in TRL, from samples and
    from exported Parquet; as many are trained as the report says; logprobs that are shifted by one, or garbage, are found out."""
    record, how, options = CASES[case]
    temperature = how.get("temperature", 1.0)
    with odograph.open(tmp_path / "store") as store:
        record(store, url, **how)
        found = list(store.trajectories())
        assert all(len(t.all_edits) == how.get("edited", 0) * (1 + how.get("helper", 0)) for t in found)
        built = odograph.samples(found, advantage="grpo", logprobs=True, **options)
        rows = list(built)
        manifest = store.export(tmp_path / "out", to="trl-grpo", options=options)
    report = built.report
    assert report.balanced and report.trained == sum(sum(row.mask) for row in rows) > 100
    assert gap(rows, temperature) <= NEXT_TO_NOTHING

    trainer = trained(rows, tmp_path, temperature)
    assert max(trainer.gaps) <= NEXT_TO_NOTHING
    assert trainer.trained_tokens == report.trained

    files = [str(tmp_path / "out" / file["path"]) for file in manifest["files"]]
    exported = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    same = sorted(map(completion, rows), key=str)
    for a, b in zip(same, sorted(map(completion, exported), key=str), strict=True):
        assert all(a[name] == pytest.approx(b[name], abs=1e-6) for name in a)
    trainer = trained(exported, tmp_path, temperature)
    assert max(trainer.gaps) <= NEXT_TO_NOTHING
    assert trainer.trained_tokens == report.trained == manifest["samples"]["trained"]

    for spoiled in (shifted, garbage):
        wrong = [spoiled(row) for row in rows]
        assert gap(wrong, temperature) > MUCH
        assert max(trained(wrong, tmp_path, temperature).gaps) > MUCH


@pytest.mark.parametrize("how", [{}, {"helper": True, "turns": 2}], ids=["one agent", "several agents"])
def test_a_stale_tail_is_found_out(how: dict[str, Any], url: str, tmp_path: Path) -> None:
    """What the samples call stale really is: trained with the logprobs that it was sampled with, it is far off the model's."""
    with odograph.open(tmp_path / "store") as store:
        conversations(store, url, edited=True, **how)
        found = list(store.trajectories())
    assert gap(list(odograph.samples(found, edits="mask", advantage="grpo", logprobs=True))) <= NEXT_TO_NOTHING
    weighted = list(
        odograph.samples(found, edits="reweight", scorer=lambda ids: [0.0] * len(ids), advantage="grpo", logprobs=True)
    )
    rows = [msgspec.structs.replace(row, weights=[]) for row in weighted]
    assert gap(rows) > MUCH
    assert max(trained(rows, tmp_path).gaps) > MUCH


def test_the_temperature_is_the_trainers_too(url: str, tmp_path: Path) -> None:
    """Rows that were sampled at 0.7 are not trained as if it had been 1: refused where the rows say so, samples or exported, else
    found out."""
    with odograph.open(tmp_path / "store") as store:
        conversations(store, url, temperature=0.7)
        rows = list(odograph.samples(store.trajectories(), advantage="grpo", logprobs=True))
    assert {row.temperature for row in rows} == {0.7}
    assert gap(rows) > MUCH
    for given in (rows, [trl_grpo.row(row) for row in rows]):
        with pytest.raises(odograph.InvalidInput, match=r"row 0 was sampled at temperature 0.7, and args.temperature is 1.0"):
            trained(given, tmp_path, temperature=1.0)
    unsaid = [msgspec.structs.replace(row, temperature=None) for row in rows]
    assert max(trained(unsaid, tmp_path, temperature=1.0).gaps) > MUCH


def test_trl_alone_would_not_notice(url: str, tmp_path: Path) -> None:
    """Why the recorded logprobs are put in: without them TRL's loss is the same for what was recorded and for garbage."""
    with odograph.open(tmp_path / "store") as store:
        conversations(store, url, count=8)
        rows = list(odograph.samples(store.trajectories(), advantage="grpo", logprobs=True))

    def loss(rows: list[Sample], alone: bool) -> float:
        trainer = trained(rows, tmp_path)
        batch = trainer._generate_and_score_completions([{"row": n} for n in range(len(rows))])
        if alone:
            del batch["old_per_token_logps"]
        return GRPOTrainer._compute_loss(trainer, trainer.model, batch).item()

    wrong = [garbage(row) for row in rows]
    assert loss(rows, alone=True) == loss(wrong, alone=True)
    assert abs(loss(rows, alone=False) - loss(wrong, alone=False)) > 0.01


@pytest.mark.parametrize("edits", ["env", "mask"])
def test_each_step_has_its_own_advantage(edits: str, url: str, tmp_path: Path) -> None:
    """With credit per step each trained token, and no other, has the advantage of the step in which it was sampled: of the rewards
    from there on, against the same step of the group. In several agents' conversations, with edits."""
    with odograph.open(tmp_path / "store") as store:
        conversations(store, url, helper=True, turns=2, edited=True)
        found = list(store.trajectories())
    returns = {t.id: [sum(s.reward or 0.0 for s in t.steps[n:]) + t.reward for n in range(len(t.steps))] for t in found}
    wanted: dict[str, float] = {}  # by call
    for t in found:
        for n, step in enumerate(t.steps):
            group = torch.tensor([many[n] for many in returns.values()], dtype=torch.float64)
            for call in step.llm_calls:
                wanted[call.id] = float((returns[t.id][n] - group.mean()) / (group.std() + 1e-4))
    rows = list(odograph.samples(found, edits=edits, advantage="grpo", credit="per-step", logprobs=True))
    assert {row.agent for row in rows} == {"talker", "helper"}
    seen: set[str] = set()
    for row in rows:
        expected = [0.0] * len(row.mask)
        for part in row.parts:
            expected[part.start : part.stop] = [wanted[part.call]] * (part.stop - part.start)
            seen.add(part.call)
        assert expanded(row.advantages) == pytest.approx(expected)
        assert all(a != 0.0 for a, m in zip(expected, row.mask, strict=True) if m)
        assert completion(row)["advantages"] == pytest.approx(expected[row.prompt_length :])
    assert len(seen) >= len(found) * 2


# --- what can't be trained --------------------------------------------------------------------------------------------------

ROW = Sample(token_ids=[1, 2, 3], mask=[0, 1, 1], logprobs=[None, -0.5, -0.25], advantages=[(1, 0.0), (2, 0.5)], trajectory="t")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logprobs": [None, -0.5, None]}, "a trained token without a logprob"),
        ({"logprobs": [None, -0.5, float("nan")]}, "trains completion token 1 with the logprob nan"),
        ({"logprobs": [None, 0.5, -0.25]}, "trains completion token 0 with the logprob 0.5"),
        ({"logprobs": [-0.5, -0.25]}, "as many of each were expected"),
        ({"advantages": [(2, 0.5)]}, "as many of each were expected"),
        ({"advantages": [(3, float("inf"))]}, "with the advantage inf"),
        ({"advantages": []}, "has no advantages"),
        ({"weights": [(1, 1.0), (2, 0.5)]}, "weights, for which the format has no place"),
        ({"mask": [0, 0, 0]}, "has no token to train"),
        ({"mask": [1, 1, 1], "logprobs": [-0.5] * 3}, "no prompt before the first trained token"),
    ],
)
def test_rows_that_cannot_be_trained_are_refused(fields: dict[str, Any], said: str) -> None:
    """In one sentence that names the row; never masked silently."""
    with pytest.raises(odograph.InvalidInput, match=f"row 0 of trajectory t .*{said}"):
        completion(msgspec.structs.replace(ROW, **fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logprobs": [-0.5, None]}, "trains completion token 1 with the logprob None"),
        ({"logprobs": [-0.5]}, "as many of each were expected"),
        ({"advantages": None}, "has no advantages"),
        ({"prompt_ids": []}, "has no prompt"),
        ({"env_mask": [0, 0]}, "has no token to train"),
    ],
)
def test_exported_rows_are_looked_at_too(fields: dict[str, Any], said: str) -> None:
    """A file may come from anywhere."""
    row = {
        "prompt_ids": [1],
        "completion_ids": [2, 3],
        "logprobs": [-0.5, -0.25],
        "env_mask": [1, 1],
        "advantages": [0.5, 0.5],
        "trajectory": "t",
        "segment": 0,
    }
    assert completion(row) == completion(ROW)
    with pytest.raises(odograph.InvalidInput, match=f"row 0 of trajectory t .*{said}"):
        completion(row | fields)
    with pytest.raises(odograph.InvalidInput, match="has no prompt_ids; a Sample or a row of the export trl-grpo was expected"):
        completion({"prompt": "x"})
