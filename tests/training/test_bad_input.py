"""What can't be trained on: refused with a sentence, or given as the format allows, with the reason in the manifest; never masked silently."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Kept, Literal
from odograph.cli import main as cli

#: Formats that train on logprobs, and those that have no place for them or none that must be filled.
WITH_LOGPROBS = ("trl-grpo", "trl-async-grpo", "art", "verifiers", "tinker", "verl", "prime-rl", "slime")
OTHERS = ("trl-sft", "agent-lightning")
REWARDED = ("trl-grpo", "trl-async-grpo", "tinker", "prime-rl", "art", "verifiers", "agent-lightning", "trl-kto")
UNREWARDED = ("trl-sft", "verl", "slime")

NO_LOGPROB = "a trained token without a logprob"
ODD_LOGPROB = "a logprob that is above 0 or no number"


def add(store: odograph.Store, reward: float | None = 1.0, group: str | None = "g", version: Any = None, **call: Any) -> str:
    """A trajectory of one call; `call` says what of it is bad. None leaves a field out."""
    sound = {"prompt_token_ids": [1, 2], "token_ids": [3, 4, 5], "logprobs": [-0.5, -0.25, -1.0], "response": "abc"}
    with store.record(task="t", agent="a", model="m", group=group, policy_version=version) as run:
        fields = {k: v for k, v in (sound | call).items() if v is not None}
        run.step().llm_call(model="m", messages=[{"role": "user", "content": "q"}], **fields)
        if reward is not None:
            run.reward(reward)
    return run.id


def exported(store: odograph.Store, tmp_path: Path, to: str, **options: Any) -> dict[str, Any]:
    """The manifest; its account adds up, and no line says NaN."""
    manifest = store.export(tmp_path / to, to, options=options)
    assert manifest["failed"] == [] and manifest.get("samples", {}).get("balanced", True)
    for file in (tmp_path / to).rglob("*.jsonl"):
        assert "NaN" not in file.read_text() and "Infinity" not in file.read_text()
    return manifest


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"logprobs": None}, NO_LOGPROB),
        ({"logprobs": [-0.5, None, -1.0]}, NO_LOGPROB),
        ({"logprobs": [-0.5]}, "logprobs of another number than the tokens"),
        ({"logprobs": [-0.5] * 4}, "logprobs of another number than the tokens"),
        ({"logprobs": [-0.5, math.nan, -1.0]}, ODD_LOGPROB),
        ({"logprobs": [-0.5, -math.inf, -1.0]}, ODD_LOGPROB),
        ({"logprobs": [-0.5, 0.5, -1.0]}, ODD_LOGPROB),
    ],
    ids=["none", "null", "short", "long", "nan", "infinite", "positive"],
)
def test_logprobs(store: odograph.Store, tmp_path: Path, bad: dict[str, Any], why: str) -> None:
    """A row with a trained token of which the logprob is missing or can't be is refused where logprobs are trained on, with the
    reason and its tokens in the manifest; the sound row beside it is given. Formats without logprobs have both."""
    add(store, 0.0)
    wrong = add(store, **bad)
    for to in WITH_LOGPROBS:
        manifest = exported(store, tmp_path, to, include_invalid=True)
        assert (manifest["rows"], manifest["trajectories"]) == (1, {"in": 2, "out": 1}), to
        assert manifest["left_out"] == {why: 1} and manifest["samples"]["dropped"] == {why: 3}, to
    for to in OTHERS:
        manifest = exported(store, tmp_path, to, include_invalid=True)
        assert (manifest["rows"], manifest["left_out"]) == (2, {}), to
    lines = [json.loads(line) for line in (tmp_path / "agent-lightning/data/train.jsonl").read_text().splitlines()]
    assert ["logprobs" in line["triplets"][0]["response"] for line in lines] == [True, False] and lines[1]["rollout_id"] == wrong


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"logprobs": [-0.5]}, "token_length"),
        ({"logprobs": [-0.5, 0.5, -1.0]}, "token_value"),
        ({"token_ids": [1, 2, 3]}, "mask_scope"),
        ({"usage": {"completion_tokens": 7}}, "ids_missing"),
    ],
)
def test_errors_of_validate_leave_a_trajectory_out(store: odograph.Store, tmp_path: Path, bad: dict[str, Any], code: str) -> None:
    """What `validate --profile rl` calls an error is in no row of tokens, with the check's code as the reason, unless it is asked
    for; a missing reward has a rule of its own."""
    add(store, 0.0)
    id = add(store, **bad)
    add(store, None)
    assert code in [f.code for f in odograph.validate(store.trajectory(id), profile="rl").errors]
    for to in ("trl-sft", "verl"):
        manifest = exported(store, tmp_path, to)
        assert (manifest["rows"], manifest["left_out"]) == (2, {f"invalid: {code}": 1}), to
    rows = list(odograph.samples(store.trajectories(), include_invalid=True))
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"logprobs_of": "raw", "params": {"temperature": 0.6}}, "raw logprobs at temperature 0.6"),
        ({"logprobs_of": "sampled", "params": {"top_p": 0.9, "top_k": 5}}, "logprobs after top_p 0.9 and top_k 5"),
        ({"logprobs_of": "sampled", "params": {"sampling_params": {"min_p": 0.1}}}, "logprobs after min_p 0.1"),
        ({"logprobs_of": "sampled", "params": {"temperature": 0.6, "top_p": 1.0, "top_k": -1}}, None),
        (
            {"logprobs_of": "sampled", "params": {"repetition_penalty": 1.2, "presence_penalty": 0}},
            "logprobs after repetition_penalty 1.2",
        ),
        ({"logprobs_of": "sampled", "params": {"temperature": 0}}, "logprobs at temperature 0"),
        ({"logprobs_of": "sampled", "params": {"logit_bias": {"5": -100}}}, "logprobs after logit_bias"),
    ],
)
def test_logprobs_of_another_distribution(store: odograph.Store, tmp_path: Path, told: dict[str, Any], why: str | None) -> None:
    """Logprobs that the trainer's own forward pass would not give are found by `validate`, and are in no row that trains on them."""
    id = add(store, **told)
    found = [f.message for f in odograph.validate(store.trajectory(id), profile="rl").findings if f.code == "sampling"]
    assert [m.partition(":")[0] for m in found] == ([why] if why else [])
    for to in ("verl", "trl-grpo"):
        assert exported(store, tmp_path, to)["left_out"] == ({why: 1} if why else {}), to
    assert exported(store, tmp_path, "trl-sft")["rows"] == 1


@pytest.mark.parametrize(
    "told",
    [
        {"logprobs_of": "raw", "params": {"top_p": 0.9}},
        {"params": {"temperature": 0.6}},
        {"params": {"temperature": 0.0}},
        {"params": {"extra_body": {"top_a": 0.2}}},
    ],
)
def test_logprobs_that_may_be_of_another_distribution_are_found_and_kept(
    store: odograph.Store, tmp_path: Path, told: dict[str, Any]
) -> None:
    """Raw logprobs of cut tokens: both sides of the ratio are the model's own. Of a meaning that nobody stated: they may be right."""
    id = add(store, **told)
    assert "sampling" in {f.code for f in odograph.validate(store.trajectory(id), profile="rl").findings}
    assert exported(store, tmp_path, "trl-grpo")["rows"] == 1


def test_a_null_logprob_where_nothing_is_trained(store: odograph.Store, tmp_path: Path) -> None:
    """It costs nothing: what an edit made stale is context under `mask`, and 0.0 is written there."""
    edited(store, lambda step, call: step.edit(call).delete(1, 2), (1, 2, 3, 5, 9), (-0.5, -0.5, None))
    for to in ("trl-grpo", "verl", "slime", "prime-rl"):
        account = exported(store, tmp_path, to, edits="mask")["samples"]
        assert (account["rows"], account["trained"], account["context"]) == (1, 2, {"stale": 1}), to
    (line,) = (json.loads(x) for x in (tmp_path / "prime-rl/data/train.jsonl").read_text().splitlines())
    assert line[:3] == [[1, 2, 3, 5, 9, 6], [False, False, True, False, False, True], [0.0, 0.0, -0.5, 0.0, 0.0, -1.0]]
    assert exported(store, tmp_path, "verl", edits="env")["left_out"] == {NO_LOGPROB: 1}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"token_ids": None}, "no call with token ids"),
        ({"prompt_token_ids": None}, "no call with token ids"),
        ({"prompt_token_ids": []}, "no call with token ids"),
        ({"token_ids": ["3", "4", "5"]}, "no call with token ids"),
        ({"token_ids": [], "logprobs": [], "response": ""}, "no token to train"),
        ({"token_ids": [3, -1, 5]}, "a token id below 0 or beyond 31 bits"),
        ({"token_ids": [3, 1 << 40, 5]}, "a token id below 0 or beyond 31 bits"),
    ],
    ids=["logprobs without ids", "no prompt", "empty prompt", "texts", "empty response", "negative", "too large"],
)
def test_ids(store: odograph.Store, tmp_path: Path, bad: dict[str, Any], why: str) -> None:
    """Token ids that are missing, none at all or none that can be: no row in any format of tokens, and the reason."""
    add(store, 0.0)
    add(store, **bad)
    for to in (*WITH_LOGPROBS, *OTHERS):
        manifest = exported(store, tmp_path, to, include_invalid=True)
        assert (manifest["rows"], manifest["trajectories"]["out"], manifest["left_out"]) == (1, 1, {why: 1}), to
        assert manifest["samples"]["trained"] == 3


def test_the_command_says_why(store: odograph.Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`odograph export` prints what was left out and why."""
    add(store, token_ids=None)
    assert cli(["--store", str(store.root), "export", "--to", "verl", "-o", str(tmp_path / "out")]) == 0
    assert "left out: 1 x no call with token ids" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [None, math.nan, math.inf], ids=["null", "nan", "infinite"])
def test_rewards(store: odograph.Store, tmp_path: Path, bad: float | None) -> None:
    """A reward that is not known, or no number, is never 0: its row is left out where the reward counts, else it has null."""
    add(store, 0.0)
    add(store, bad)
    for to in REWARDED:
        manifest = exported(store, tmp_path, to)
        assert (manifest["rows"], manifest["left_out"]) == (1, {"no reward": 1}), to
    for to in UNREWARDED:
        assert exported(store, tmp_path, to)["rows"] == 2, to
    for to, name in (("verl", "reward_score"), ("slime", "reward")):
        lines = [json.loads(line) for line in (tmp_path / to / "data/train.jsonl").read_text().splitlines()]
        assert [line[name] for line in lines] == [0.0, None]


def advantages(store: odograph.Store, by: str) -> list[float | None]:
    found = odograph.samples(store.trajectories(), advantage=by)
    return [row.advantage for row in found]


def test_a_group_of_one(store: odograph.Store, tmp_path: Path) -> None:
    """Nothing to compare with: advantage 0 (verl's convention: the reward), counted in the manifest, and no division by zero."""
    add(store, 0.75)
    assert [advantages(store, by) for by in ("grpo", "trl-async", "art", "dr_grpo", "rloo")] == [[0.0]] * 5
    assert advantages(store, "verl") == [pytest.approx(0.75, rel=1e-5)]
    for to in ("trl-grpo", "tinker", "prime-rl"):
        account = exported(store, tmp_path, to)["samples"]
        assert (account["groups"], account["groups_of_one"], account["zero_advantage"], account["rows"]) == (1, 1, 1, 1)
    manifest = exported(store, tmp_path, "trl-dpo", by="reward")
    assert (manifest["rows"], manifest["left_out"]) == (0, {"a group of one reward": 1})


def test_a_trajectory_without_a_group_is_in_none(store: odograph.Store, tmp_path: Path) -> None:
    """Two that name no group are not compared with each other."""
    add(store, 0.0, group=None)
    add(store, 1.0, group=None)
    assert advantages(store, "grpo") == [0.0, 0.0]
    assert exported(store, tmp_path, "art")["rows"] == 2


def test_mixed_versions_in_a_group(store: odograph.Store, tmp_path: Path) -> None:
    """Rollouts of two versions of the policy in one group: exported, each with its version, and counted."""
    add(store, 0.0, version=3)
    add(store, 1.0, version=4)
    for to in ("trl-grpo", "verl", "art"):  # computed over two passes, and counted as they come
        assert exported(store, tmp_path, to)["samples"]["groups_of_mixed_versions"] == 1, to
    exported(store, tmp_path, "slime")
    lines = [json.loads(line) for line in (tmp_path / "slime/data/train.jsonl").read_text().splitlines()]
    assert [line["weight_versions"] for line in lines] == [["3"], ["4"]]
    (group,) = (json.loads(line) for line in (tmp_path / "art/data/train.jsonl").read_text().splitlines())
    assert [(t["initial_policy_version"], t["final_policy_version"]) for t in group["trajectories"]] == [(3, 3), (4, 4)]


# --- edits ----------------------------------------------------------------------------------------------------------


def edited(
    store: odograph.Store,
    edit: Callable[[Any, Any], object],
    second: tuple[int, ...] = (1, 2, 3, 4, 5, 9),
    logprobs: tuple[float | None, ...] = (-0.5, -0.5, -0.5),
) -> str:
    """Two calls, and what happens between them."""
    with store.record(task="t", agent="a", model="m", group="g") as run:
        step = run.step()
        call = step.llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[3, 4, 5], logprobs=list(logprobs), response="abc")
        edit(step, call)
        run.step().llm_call(model="m", prompt_token_ids=list(second), token_ids=[6], logprobs=[-1.0], response="d")
        run.reward(1.0)
    return run.id


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda step, call: step.edit(call, base_hash="0" * 32).delete(1, 2), f"base hash {'0' * 32} was expected to be"),
        (lambda step, call: step.edit(call).delete(1, 20), "range [1, 20] of a base of 3 tokens"),
        (lambda step, call: step.edit(call, choice=4).delete(0, 1), "the call has no choice 4 to edit"),
        (lambda step, call: step.edit(call, result=[Kept(0, 1, call="nowhere")]), "whose ids are not recorded"),
        (lambda step, call: step.edit(call, on="text").delete(1, 2), "no tokenizer says where its tokens stand"),
    ],
    ids=["hash", "range", "choice", "foreign", "text"],
)
def test_an_edit_that_can_not_be(store: odograph.Store, tmp_path: Path, edit: Callable[[Any, Any], object], why: str) -> None:
    """It is kept, changes nothing, and is named with the reason in the manifest's account; the tokens are as they were sampled."""
    id = edited(store, edit)
    (record,) = store.trajectory(id).all_edits
    for to in ("trl-grpo", "verl", "trl-sft"):
        account = exported(store, tmp_path, to, include_invalid=True)["samples"]
        ((found, reason),) = account["edits_unused"].items()
        assert found == record.id and why in reason
        assert (account["rows"], account["trained"], account["dropped"]) == (1, 4, {})


def test_a_late_edit_of_another_base(store: odograph.Store) -> None:
    """From another process too: the hash of the base is checked, what doesn't match is kept as rejected, and found by `validate`."""
    id = edited(store, lambda step, call: None)
    with odograph.open(store.root) as other:
        other.append(id).edit(other.trajectory(id).llm_calls[0], base_hash="f" * 32).delete(0, 1)
    t = store.trajectory(id)
    assert (t.all_edits[0].rejected or "").startswith("base hash")
    assert "orphan_edit" in [f.code for f in odograph.validate(t, profile="rl").findings]


def test_an_edit_of_an_edit(store: odograph.Store) -> None:
    """An edit is of a call: another is a mistake and said so at once; one that comes in from elsewhere changes nothing, by name."""

    def twice(step: Any, call: Any) -> None:
        first = step.edit(call).delete(1, 2)
        with pytest.raises(TypeError, match=r"edit\(\) takes a call, as returned by llm_call\(\) or t.llm_calls\[i\], not str"):
            step.edit(first)

    given = store.trajectory(edited(store, twice, (1, 2, 3, 5, 9))).to_dict()
    first = given["steps"][0]["edits"][0]
    given["steps"][0]["edits"].append({"kind": "edit", "id": "of-an-edit", "step": 0, "base": first["id"], "result": []})
    with odograph.open("memory:") as other:
        t = other.trajectory(other.add(given))
        found = odograph.samples([t], edits="mask", include_invalid=True)
        (row,) = found
        assert found.report.edits_unused == {"of-an-edit": f"its base {first['id']} is no call of this trajectory"}
        assert (row.token_ids, row.mask) == ([1, 2, 3, 5, 9, 6], [0, 0, 1, 0, 0, 1])
        assert "orphan_edit" in [f.code for f in odograph.validate(t, profile="rl").findings]


def test_edits_that_overlap(store: odograph.Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first counts, the second changes nothing and is named, by the command too; edits of separate places both count."""

    def overlap(step: Any, call: Any) -> None:
        step.edit(call).delete(1, 2)
        step.edit(call).replace(0, 2, [8])

    def apart(step: Any, call: Any) -> None:
        step.edit(call).delete(0, 1)
        step.edit(call, result=[Kept(0, 2), Literal([8])])

    edited(store, overlap, (1, 2, 3, 5, 9))
    edited(store, apart, (1, 2, 4, 8, 9))
    first, second = store.trajectories()
    account = exported(store, tmp_path, "verl", edits="mask")["samples"]
    one, other = first.all_edits
    assert account["edits_unused"] == {other.id: f"it overlaps edit {one.id} of the same response"}
    assert [row.token_ids for row in odograph.samples([second], edits="mask")] == [[1, 2, 4, 8, 9, 6]]
    assert account["dropped"] == {"deleted": 3} and account["context"] == {"stale": 2}
    assert cli(["--store", str(store.root), "export", "--to", "verl", "-o", str(tmp_path / "printed"), "--edits", "mask"]) == 0
    assert f"changed nothing: 1 (all are in the manifest), such as {other.id[-8:]}: it overlaps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("nowhere.json", "no tokenizer at 'nowhere.json': the file or folder of a tokenizer.json was expected"),
        (object(), "object gives no offsets; a tokenizer of the package tokenizers was expected, or its file"),
        (7, "int gives no offsets"),
    ],
    ids=["file", "object", "number"],
)
def test_an_unknown_tokenizer(store: odograph.Store, tmp_path: Path, given: Any, why: str) -> None:
    """One sentence, and nothing is written."""
    add(store)
    with pytest.raises(odograph.InvalidInput, match=why):
        store.export(tmp_path / "out", "trl-dpo", options={"tokenizer": given})
    with pytest.raises(odograph.InvalidInput, match=why):
        odograph.samples(store.trajectories(), tokenizer=given)
    assert not (tmp_path / "out").exists() and [p.name for p in tmp_path.iterdir()] == ["store"]
