"""Formats of trainers that don't install beside the others: field by field against the schemas that they publish.

The structures here are those schemas, written down from the sources that are named; a field that is not theirs, or of another type,
does not decode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

import odograph
from odograph.cli import main

IDS = list[int]

#: (prompt, sampled, logprobs) of the calls of the trajectory below: the second goes on from the first, the third from an edit.
CALLS: list[tuple[IDS, IDS, list[float]]] = [
    ([1, 2, 3], [10, 11, 12], [-0.5, -0.25, -0.125]),
    ([1, 2, 3, 10, 11, 12, 50, 51], [20, 21], [-1.0, -2.0]),
    ([1, 2, 3, 10, 11, 12, 50, 51, 21, 52], [30], [-4.0]),
]
#: The same as rows: ids, mask, logprobs.
ROWS: list[tuple[IDS, IDS, list[float]]] = [
    (
        [1, 2, 3, 10, 11, 12, 50, 51, 20, 21],
        [0, 0, 0, 1, 1, 1, 0, 0, 1, 1],
        [0.0, 0.0, 0.0, -0.5, -0.25, -0.125, 0.0, 0.0, -1.0, -2.0],
    ),
    ([1, 2, 3, 10, 11, 12, 50, 51, 21, 52, 30], [0] * 10 + [1], [0.0] * 10 + [-4.0]),
]
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
REWARDS = (0.0, 1.0)


@pytest.fixture
def ids(store: odograph.Store) -> list[str]:
    """Two trajectories of one group: a tool call, an edit, an answer."""
    out = []
    for reward in REWARDS:
        with store.record(task="q", agent="solver", model="m", group="g", policy_version=5) as run:
            messages: list[dict[str, Any]] = MESSAGES
            for n, (prompt, sampled, logprobs) in enumerate(CALLS):
                with run.step() as step:
                    call = step.llm_call(
                        model="m",
                        messages=messages,
                        response=f"answer {n}",
                        params={"temperature": 0.5},
                        prompt_token_ids=prompt,
                        token_ids=sampled,
                        logprobs=logprobs,
                    )
                    if n == 1:
                        step.edit(call).delete(0, 1, reason="twice")
                messages = [*messages, {"role": "assistant", "content": f"answer {n}"}, {"role": "user", "content": "go on"}]
            run.reward(reward, name="env")
        out.append(run.id)
    return out


def exported(store: odograph.Store, tmp_path: Path, to: str, schema: Any, **options: Any) -> list[Any]:
    """The lines of an export, decoded strictly; nothing is left out."""
    manifest = store.export(tmp_path / to, to, options=options)
    assert manifest["left_out"] == {} and manifest["samples"]["balanced"]
    text = (tmp_path / to / "data" / "train.jsonl").read_bytes()
    assert b"NaN" not in text
    return [msgspec.json.decode(line, type=schema) for line in text.splitlines()]


def both(ids: list[str]) -> list[tuple[str, int, float, tuple[IDS, IDS, list[float]]]]:
    """Trajectory, segment, reward and row of each line."""
    return [(id, n, reward, row) for id, reward in zip(ids, REWARDS, strict=True) for n, row in enumerate(ROWS)]


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class RewardModel(msgspec.Struct, forbid_unknown_fields=True):
    style: str
    ground_truth: str


class ExtraInfo(msgspec.Struct):  # open in verl
    index: int
    split: str
    trajectory: str
    segment: int


class VerlRow(msgspec.Struct, forbid_unknown_fields=True):
    """Columns of verl 0.9's `RLHFDataset` (verl/utils/dataset/rl_dataset.py), and the fields of its `AgentLoopOutput`
    (verl/experimental/agent_loop/agent_loop.py)."""

    data_source: str
    prompt: list[Message]
    ability: str
    reward_model: RewardModel
    extra_info: ExtraInfo
    prompt_ids: IDS
    response_ids: IDS
    response_mask: list[Literal[0, 1]]
    response_logprobs: list[float] | None
    reward_score: float | None
    num_turns: int
    metrics: dict[str, float]
    extra_fields: dict[str, Any]


def test_verl(store: odograph.Store, ids: list[str], tmp_path: Path) -> None:
    """A row per sample: prompt and response split before the first trained token, mask and logprobs as long as the response."""
    lines = exported(store, tmp_path, "verl", VerlRow, data_source="mine")
    for line, (id, segment, reward, (tokens, mask, logprobs)) in zip(lines, both(ids), strict=True):
        at = mask.index(1)
        assert (line.prompt_ids, line.response_ids) == (tokens[:at], tokens[at:])
        assert (line.response_mask, line.response_logprobs) == (mask[at:], logprobs[at:])
        assert (line.reward_score, line.data_source, line.extra_fields) == (reward, "mine", {"group": "g"})
        assert (line.extra_info.trajectory, line.extra_info.segment) == (id, segment)
        assert msgspec.to_builtins(line.prompt)[:2] == MESSAGES
    assert len({line.extra_info.index for line in lines}) == 4


class TrainingSample(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """prime-rl 0.8, src/prime_rl/transports/rollouts/types.py: an array, all lists as long as the ids."""

    token_ids: IDS
    mask: list[bool]
    logprobs: list[float]
    temperatures: list[float]
    env_name: str
    ref_logprobs: list[float] | None = None
    mm_kwargs: Any = None
    routed_experts: Any = None
    mm_token_type_ids: list[int] | None = None
    rl_weights: list[float] | None = None
    ce_weights: list[float] | None = None
    ref_kl_weights: list[float] | None = None
    advantages: list[float] | None = None


def test_prime_rl(store: odograph.Store, ids: list[str], tmp_path: Path) -> None:
    """A sample as an array; advantages centred by group, 0 where nothing is trained; the temperature of the request."""
    lines = exported(store, tmp_path, "prime-rl", TrainingSample)
    for line, (_, _, reward, (tokens, mask, logprobs)) in zip(lines, both(ids), strict=True):
        assert (line.token_ids, line.mask, line.logprobs) == (tokens, [bool(m) for m in mask], logprobs)
        assert line.advantages == [reward - 0.5 if m else 0.0 for m in mask]
        assert (line.temperatures, line.env_name) == ([0.5] * len(tokens), "solver")
        assert (line.ref_logprobs, line.mm_kwargs, line.rl_weights, line.ce_weights) == (None, None, None, None)


class SlimeSample(msgspec.Struct, forbid_unknown_fields=True):
    """slime, slime/utils/types.py (2026-08): what `Sample.from_dict` takes; `status` is required there."""

    group_index: int
    index: int
    rollout_id: int
    prompt: str | list[dict[str, Any]]
    tokens: IDS
    response: str
    response_length: int
    reward: float | None
    loss_mask: list[Literal[0, 1]]
    weight_versions: list[str]
    rollout_log_probs: list[float]
    status: Literal["pending", "completed", "truncated", "aborted", "failed"]
    metadata: dict[str, Any]


def test_slime(store: odograph.Store, ids: list[str], tmp_path: Path) -> None:
    """A sample whose mask and logprobs are of the response alone; rows of a trajectory share their rollout, those of a group
    their group, and the weights' version is the one that was recorded."""
    lines = exported(store, tmp_path, "slime", SlimeSample)
    for line, (id, segment, reward, (tokens, mask, logprobs)) in zip(lines, both(ids), strict=True):
        at = mask.index(1)
        assert (line.tokens, line.response_length) == (tokens, len(tokens) - at)
        assert (line.loss_mask, line.rollout_log_probs) == (mask[at:], logprobs[at:])
        assert (line.reward, line.status, line.weight_versions) == (reward, "completed", ["5"])
        assert (line.metadata["trajectory"], line.metadata["segment"]) == (id, segment)
    assert [line.rollout_id for line in lines[::2]] == [line.rollout_id for line in lines[1::2]]
    found = [{getattr(line, name) for line in lines} for name in ("index", "rollout_id", "group_index")]
    assert [len(f) for f in found] == [4, 2, 1] and all(0 <= n < 1 << 31 for f in found for n in f)


class Logprob(msgspec.Struct, forbid_unknown_fields=True):
    logprob: float


class TripletPrompt(msgspec.Struct, forbid_unknown_fields=True):
    token_ids: IDS


class TripletResponse(msgspec.Struct, forbid_unknown_fields=True):
    token_ids: IDS
    logprobs: list[Logprob] | None = None


class Triplet(msgspec.Struct, forbid_unknown_fields=True):
    """agentlightning 0.3, agentlightning/types: `Triplet`; ids where agentlightning/verl/daemon.py reads them."""

    prompt: TripletPrompt
    response: TripletResponse
    reward: float | None
    metadata: dict[str, Any]


class RolloutOfTriplets(msgspec.Struct, forbid_unknown_fields=True):
    """Ours: agent-lightning has triplets in memory only."""

    rollout_id: str
    group: str | None
    triplets: list[Triplet]


def test_agent_lightning(store: odograph.Store, ids: list[str], tmp_path: Path) -> None:
    """A triplet per call, each with the whole prompt that the model saw; the reward is on the last."""
    lines = exported(store, tmp_path, "agent-lightning", RolloutOfTriplets)
    assert [(line.rollout_id, line.group) for line in lines] == [(id, "g") for id in ids]
    for line, reward in zip(lines, REWARDS, strict=True):
        assert [
            (t.prompt.token_ids, t.response.token_ids, [p.logprob for p in t.response.logprobs or []]) for t in line.triplets
        ] == CALLS
        assert [t.reward for t in line.triplets] == [None, None, reward]
        assert [t.metadata["step"] for t in line.triplets] == [0, 1, 2]


class ModelRequest(msgspec.Struct):
    """agentlightning 1.0, agentlightning/schemas.py: `ModelRequestData`, and `server`, which server/routes/events.py reads."""

    model: str
    request: dict[str, Any]
    response: dict[str, Any]
    server: dict[str, Any]
    model_version: int | None = None
    status: str = "ok"


class LightningEvent(msgspec.Struct, forbid_unknown_fields=True):
    """`Event`."""

    event_type: str
    rollout_id: str
    attempt_id: str
    timestamp: float
    data: dict[str, Any]


class Lifecycle(msgspec.Struct, forbid_unknown_fields=True):
    """`RolloutLifecycleStatus`."""

    state: Literal["queuing", "running", "succeeded", "failed"]
    created_at: float
    updated_at: float
    last_attempt_id: str | None = None
    error_message: str | None = None


class LightningRollout(msgspec.Struct, forbid_unknown_fields=True):
    """`Rollout`."""

    rollout_id: str
    input: Any
    config: dict[str, Any]
    status: Lifecycle
    metadata: dict[str, Any] = {}


class RolloutOfEvents(msgspec.Struct, forbid_unknown_fields=True):
    """A line of an archive."""

    rollout: LightningRollout
    events: list[LightningEvent]


def test_agent_lightning_events(store: odograph.Store, ids: list[str], tmp_path: Path) -> None:
    """With `events` each call is a request of the model, of which version 1's server takes ids, logprobs and version; the reward is
    an event behind them. Imported, it is the same run."""
    lines = exported(store, tmp_path, "agent-lightning", RolloutOfEvents, events=True)
    assert [(line.rollout.rollout_id, line.rollout.status.state) for line in lines] == [(id, "succeeded") for id in ids]
    for line, reward in zip(lines, REWARDS, strict=True):
        *asked, last = line.events
        requests = [msgspec.convert(event.data, ModelRequest) for event in asked if event.event_type == "model_request"]
        told = [(r.response["prompt_token_ids"], r.response["choices"][0]) for r in requests]
        assert [(ids, c["token_ids"], [p["logprob"] for p in c["logprobs"]["content"]]) for ids, c in told] == CALLS
        assert [c["message"]["content"] for _, c in told] == ["answer 0", "answer 1", "answer 2"]
        assert [(r.server["version"], r.model_version, r.request["temperature"]) for r in requests] == [(5, 5, 0.5)] * 3
        assert (last.event_type, last.data["value"]) == ("reward", reward)
    with odograph.open(tmp_path / "other") as other:
        assert main(["--store", str(tmp_path / "other"), "import", str(tmp_path / "agent-lightning/data/train.jsonl")]) == 0
        found = [store.trajectory(id) for id in ids]
        for was, t in zip(found, sorted(other.trajectories(), key=lambda t: t.reward or 0.0), strict=True):
            assert (t.status, t.reward, t.task) == (was.status, was.reward, was.task)
            assert t.started is not None and was.started is not None and abs(t.started - was.started) < 1000
            assert [(c.prompt_token_ids, c.choices[0].token_ids, c.text, c.messages) for c in t.llm_calls] == [
                (c.prompt_token_ids, c.choices[0].token_ids, c.text, c.messages) for c in was.llm_calls
            ]


def test_cut_and_not_rewarded(store: odograph.Store, tmp_path: Path) -> None:
    """A trajectory that was cut says so, and one without a reward has null there, not 0."""
    with store.record(task="q", group="g") as run:
        run.step().llm_call(model="m", prompt_token_ids=[1], token_ids=[2], logprobs=[-1.0])
        run.finish(status="truncated")
    (verl,) = exported(store, tmp_path, "verl", VerlRow)
    (slime,) = exported(store, tmp_path, "slime", SlimeSample)
    assert (verl.reward_score, slime.reward, slime.status) == (None, None, "truncated")
    assert verl.response_logprobs == slime.rollout_log_probs == [-1.0]
