"""A whole trajectory that an agent built itself: in through one call, out through every exporter, with rewards added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main as cli
from odograph.training import formats

BOX = {
    "task": "t",
    "agent": "solver",
    "model": "m",
    "group": "g",
    "token_ids": [1, 2, 3, 10, 11, 50, 51, 20],
    "mask": [0, 0, 0, 1, 1, 0, 0, 1],
    "logprobs": [None, None, None, -0.1, -0.2, None, None, -0.3],
}


def box(**more: Any) -> dict[str, Any]:
    return {**BOX, **more}


def test_a_copy_under_another_id_does_not_correct_the_original(store: odograph.Store) -> None:
    """An id that contradicts the records in a dict is refused: they would be taken for corrections of the other trajectory."""
    with store.record(task="t") as run:
        run.reward(1.0)
    with pytest.raises(odograph.InvalidInput, match="id: 'copy', but the records in it are of trajectory"):
        store.add({**store.trajectory(run.id).to_dict(), "id": "copy", "task": "other"})
    assert len(list(store.trajectories())) == 1 and store.trajectory(run.id).task == "t"


def test_in_and_out(store: odograph.Store) -> None:
    """What goes in comes out as one row, the same under every policy, with the reward that was given."""
    id = store.add(box(reward=0.5))
    store.append(id).reward(1.0, name="late")
    t = store.trajectory(id)
    assert len(t.llm_calls) == 2 and t.reward == 1.5 and t.status == "completed"
    for edits in ("env", "mask", "imitate"):
        (row,) = odograph.samples([t], edits=edits)
        assert (row.token_ids, row.mask, row.reward) == (BOX["token_ids"], BOX["mask"], 1.5)
        assert row.logprobs == BOX["logprobs"]


@pytest.mark.parametrize(
    "to",
    [n for n in formats.NAMES if n.startswith(("trl-grpo", "trl-async", "trl-sft", "verl", "prime", "slime", "tinker", "agent"))],
)
def test_every_exporter_of_tokens_takes_it(store: odograph.Store, tmp_path: Path, to: str) -> None:
    """Each format has the row, and its account balances."""
    for reward in (0.0, 1.0):
        store.add(box(reward=reward))
    manifest = store.export(tmp_path / "out", to)
    assert manifest["rows"] == 2 and manifest["samples"]["balanced"] and manifest["samples"]["trained"] == 6, manifest


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mask": [0, 1]}, "a mask of the same length"),
        ({"mask": None}, "a mask of the same length"),
        ({"mask": [1, 0, 0, 1, 1, 0, 0, 1]}, "beginning with 0"),
        ({"mask": [0, 0, 0, 2, 1, 0, 0, 1]}, "0s and 1s"),
        ({"logprobs": [-0.1]}, "a list of 8 was expected"),
        ({"token_ids": [1, "x", 3, 10, 11, 50, 51, 20]}, "token_ids"),
    ],
)
def test_what_can_not_be_is_refused(store: odograph.Store, wrong: dict[str, Any], why: str) -> None:
    """Lengths, values and kinds that don't go together: one sentence, and nothing is added."""
    with pytest.raises(odograph.InvalidInput, match=why):
        store.add(box(**wrong))
    assert len(store) == 0


def test_the_lineage_command(store: odograph.Store, capsys: pytest.CaptureFixture[str]) -> None:
    """`odograph lineage` shows sources and standings, for people and as JSON; `odograph export` says what became of the tokens."""
    with store.record(task="t", agent="a", model="m", group="g") as run:
        step = run.step()
        call = step.llm_call(model="m", prompt_token_ids=[1, 2], token_ids=[3, 4, 5], logprobs=[-0.1, -0.2, -0.3])
        step.edit(call).delete(1, 2, reason="why")
        run.step().llm_call(model="m", prompt_token_ids=[1, 2, 3, 5, 9], token_ids=[6], logprobs=[-0.5])
        run.reward(1.0)
    where = ["--store", str(store.root)]
    assert cli([*where, "lineage", run.id]) == 0
    out = capsys.readouterr().out
    assert "sampled exact" in out and "sampled stale" in out and "declared" in out and "4 tokens sampled, 2 of them exact" in out
    assert cli([*where, "lineage", run.id, "--json"]) == 0
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    assert [c["kind"] for c in chain["calls"]] == ["start", "declared"] and chain["edits_unused"] == {}
    assert [(v["source"], v["ids"], v["standing"], v["mask"], v["logprobs"]) for v in chain["view"]] == [
        ("prompt", [1, 2], None, 0, None),
        ("sampled", [3], "exact", 1, [-0.1]),
        ("sampled", [5], "stale", 0, [-0.3]),
        ("prompt", [9], None, 0, None),
        ("sampled", [6], "exact", 1, [-0.5]),
    ]
    out_dir = str(store.root.parent / "out")
    assert cli([*where, "export", "--to", "trl-grpo", "-o", out_dir, "--edits", "mask", "--advantage", "dr_grpo"]) == 0
    assert "2 of 4 sampled tokens are trained, 1 stale, 1 deleted" in capsys.readouterr().out
    for flags, why in (
        (["--to", "trl-grpo", "--edits", "reweight"], "TRL has no weight per token"),
        (["--to", "trl-grpo", "--edits", "bogus"], "no edits 'bogus'; there are: env, mask"),
        (["--to", "trl-grpo", "--edits", "truncation=env,bogus=mask"], "no class of edits 'bogus'"),
        (["--to", "trl-grpo", "--advantage", "bogus"], "no advantage 'bogus'; there are: grpo"),
        (["--to", "trl-grpo", "--option", "colour=red"], "has no option 'colour'"),
        (["--to", "art", "--edits", "mask"], "ART trains whole choices"),
        (["--to", "trl-grpo", "--tokenizer", "nowhere.json"], "no tokenizer at 'nowhere.json'"),
    ):
        assert cli([*where, "export", "-o", out_dir + "2", *flags]) == 2
        err = capsys.readouterr().err
        assert why in err and len(err.strip().splitlines()) == 1


def test_a_function_that_edits(store: odograph.Store) -> None:
    """`@odograph.edit`: what a function changes of the last response is recorded, text or ids; its result goes back untouched."""

    @odograph.edit
    def shorter(text: str) -> str:
        """Cuts the tail."""
        return text[:5] + "!"

    @odograph.edit(reason="no 11", author="rule", preferred=True)
    def without(ids: list[int]) -> list[int]:
        return [i for i in ids if i != 11]

    with store.record(task="t") as run:
        with run.step() as step:
            step.llm_call(model="m", response="hello world")
            assert shorter("hello world") == "hello!"
        with run.step() as step:
            step.llm_call(model="m", prompt_token_ids=[1], token_ids=[10, 11, 12], logprobs=[-1.0] * 3)
            assert without([10, 11, 12]) == [10, 12]
    assert shorter("outside of a run") == "outsi!"
    first, second = store.trajectory(run.id).all_edits
    assert (first.unit, first.reason, first.author) == ("char", "Cuts the tail.", "shorter")
    assert [getattr(r, "text", None) or (r.start, r.stop) for r in first.result] == [(0, 5), "!"]
    assert (second.unit, second.reason, second.author, second.preferred) == ("token", "no 11", "rule", True)
    assert [(r.start, r.stop) for r in second.result] == [(0, 1), (2, 3)]
