"""The fourth seed, claim by claim: trajectory logging for agent training. Longer tests of the same parts stand beside those parts.

The first half goes through the page in its order; the second holds what the page claims and its code never did, and what it
did wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import rewards
from tests.hub_server import HubServer
from tests.judge.made import judge, judging
from tests.llm_server import Answer, LLMServer

ROOT = Path(__file__).parent.parent
MARKETS = [{"id": "rain", "price": 0.4}, {"id": "snow", "price": 0.9}]
SYSTEM = "You are a trading agent..."
USER = f"Analyze these markets: {json.dumps(MARKETS)}"
WHY = "Analyze available markets for trading opportunities"


class Broke(Exception):
    """What a trade raises."""


def trade(pnl: float | None, thinking: str | None = "high confidence", investment: float = 40.0, took: float = 200.0) -> Any:
    """The seed's BUY_SHARES, wrapped. `pnl` None: the trade fails."""

    async def handler(market: str) -> dict[str, Any]:
        odograph.log_context("market_data", MARKETS, purpose=WHY)
        decision = json.dumps({"market": market})
        odograph.log_llm_call(model="gpt-5.1", system_prompt=SYSTEM, user_prompt=USER, response=decision, thinking=thinking)
        if pnl is None:
            raise Broke("market closed")
        return {"market": market, "realized_pnl": pnl, "pnl": pnl, "investment": investment, "execution_time": took}

    return odograph.wrap_action(handler, name="BUY_SHARES", description="Buy prediction market shares")


def traded(store: odograph.Store, pnl: float | None, *args: Any, group: str | None = None, **more: Any) -> odograph.Trajectory:
    """One trajectory of one trade, read back."""
    with store.record(task="trade", agent="trader", group=group, **more) as run, run.step():
        try:
            asyncio.run(trade(pnl, *args)("rain"))
        except Broke:
            run.finish("gave up")
    return store.trajectory(run.id)


@odograph.reward(name="trading_performance")
def trading_reward(trajectory: odograph.Trajectory) -> float | None:
    """The page's: scaled profit, and a penalty for losses."""
    if not trajectory.result:
        return None
    if trajectory.result["realized_pnl"] > 0:
        return float(trajectory.result["realized_pnl"] / 100)
    return -0.5


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """What `datasets` loads from a folder."""
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("pyarrow")
    return list(datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache")))


def command(store: odograph.Store, *words: str) -> subprocess.CompletedProcess[str]:
    """An `odograph` command in a process of its own."""
    env = {**os.environ, "ODOGRAPH_STORE": str(store.root), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, "-m", "odograph", *words], env=env, capture_output=True, text=True, check=False)


# --- Overview ---------------------------------------------------------------------------------------------------------


def test_captures_every_decision_an_agent_makes(store: odograph.Store) -> None:
    """A hundred decisions in one trajectory: each has its step, its context, its call and its action."""
    with store.record(task="trade", agent="trader") as run:
        for n in range(100):
            with run.step({"tick": n}):
                asyncio.run(trade(float(n))("rain"))
    t = store.trajectory(run.id)
    assert [(s.index, len(s.contexts), len(s.llm_calls), len(s.actions)) for s in t.steps] == [(n, 1, 1, 1) for n in range(100)]


def test_reinforcement_learning_train_agents_on_successful_strategies(store: odograph.Store, tmp_path: Path) -> None:
    """What is exported with a least reward holds the successful trades, and no other."""
    for pnl in (90.0, -10.0, 60.0, None):
        traded(store, pnl)
    store.score(trading_reward)
    store.export(tmp_path / "out", "hf", format="jsonl", min_reward=0.5)
    lines = (tmp_path / "out" / "data" / "train.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["reward"] for line in lines) == [0.6, 0.9]


def test_decision_analysis_why_agents_make_specific_choices(store: odograph.Store) -> None:
    """`odograph show` says what was read and why, what the model was asked, what it thought, and what came of it."""
    t = traded(store, 60.0, "the poll is above the price")
    said = command(store, "show", t.id).stdout
    for part in ("market_data", WHY, SYSTEM, "the poll is above the price", "BUY_SHARES", "realized_pnl"):
        assert part in said


def test_performance_optimization_winning_against_losing_patterns(store: odograph.Store) -> None:
    """Which action goes with high reward is told with an interval that leaves 0 out; what makes no difference stands not out."""
    for n in range(40):
        with store.record(task="t", agent="a", tags=["odd" if n // 2 % 2 else "even"]) as run:
            with run.step() as step:
                step.action("hold" if n % 2 else "gamble", {}, "done", ok=True)
            run.reward(0.8 + n % 5 / 50 if n % 2 else 0.1 + n % 5 / 50)
    found = {(d.kind, d.name): d for d in store.stats().differences}
    assert found["action", "hold"].stands_out and found["action", "hold"].difference == pytest.approx(0.7, abs=0.05)
    assert found["action", "gamble"].stands_out and found["action", "gamble"].difference < 0
    assert not found["tag", "odd"].stands_out


@pytest.mark.parametrize("to", ["art", "trl-grpo"])
def test_model_training_datasets_for_art_and_grpo(store: odograph.Store, tmp_path: Path, to: str) -> None:
    """Groups with different rewards become rows of a trainer's format."""
    pytest.importorskip("pyarrow")
    for n in range(4):
        with store.record(task="t", agent="a", group="g") as run:
            with run.step() as step:
                tokens = {"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-0.1, -0.2]}
                messages = [{"role": "user", "content": "trade"}]
                step.llm_call(model="m", messages=messages, response="ok", params={"temperature": 1.0}, **tokens)
            run.reward(n / 4)
    manifest = store.export(tmp_path / to, to)
    assert manifest["trajectories"] == {"in": 4, "out": 4}
    assert manifest["rows"] > 0


def test_model_training_with_ruler(store: odograph.Store) -> None:
    """A group is scored relatively by a judge over HTTP, and the scores are rewards of the trajectories."""
    pytest.importorskip("httpx")
    ids = []
    for text in ("42", "43", "cat"):
        with store.record(task="6*7?", agent="solver", group="g") as run, run.step() as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "6*7?"}], response=text)
        ids.append(run.id)
    with judging() as server:
        asyncio.run(odograph.ruler(store, judge=judge(server)))
    assert [store.trajectory(id).rewards["ruler"] for id in ids] == [1.0, 0.5, 0.0]


# --- The three critical data points -----------------------------------------------------------------------------------


def test_provider_data_what_was_accessed_why_and_when(store: odograph.Store) -> None:
    before = time.time_ns()
    read = traded(store, 1.0).steps[0].contexts[0]
    assert (read.provider, read.data, read.purpose) == ("market_data", MARKETS, WHY)
    assert before <= read.time <= time.time_ns()


def test_llm_call_system_prompt_user_prompt_response_and_thinking(store: odograph.Store) -> None:
    call = traded(store, 1.0, "because").steps[0].llm_calls[0]
    assert call.messages == [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    assert (call.model, call.text, call.reasoning) == ("gpt-5.1", '{"market": "rain"}', "because")


def test_action_result_what_was_done_with_what_and_how_it_ended(store: odograph.Store) -> None:
    """Action, parameters, result, success or failure, and the reward signal."""
    t = traded(store, 60.0)
    done = t.steps[0].actions[0]
    assert (done.name, done.arguments, done.ok, done.error) == ("BUY_SHARES", {"market": "rain"}, True, None)
    assert done.result["realized_pnl"] == 60.0
    store.score(trading_reward)
    assert store.trajectory(t.id).reward == 0.6
    failed = traded(store, None).steps[0].actions[0]
    assert (failed.ok, failed.result) == (False, None)
    assert "market closed" in json.dumps(failed.error)


# --- Quick start ------------------------------------------------------------------------------------------------------


def test_database_setup_takes_no_migration(tmp_path: Path) -> None:
    """Opening a folder that is not there is all the setup there is."""
    with odograph.open(tmp_path / "new" / "store") as store:
        traded(store, 1.0)
        assert len(store) == 1


def test_a_wrapped_action_keeps_its_return_value_and_its_exceptions(store: odograph.Store) -> None:
    """The very object and the very exception; and its name and signature, also where nothing is recorded."""
    given, raised = {"a": object()}, Broke("own")

    def handler(fail: bool = False) -> dict[str, object]:
        """Does it."""
        if fail:
            raise raised
        return given

    wrapped = odograph.wrap_action(handler, name="X")
    assert wrapped() is given  # outside of a run
    assert (wrapped.__name__, wrapped.__doc__) == ("handler", "Does it.")
    with store.record(task="t") as run, run.step():
        with pytest.raises(Broke) as caught:
            wrapped(fail=True)
        assert caught.value is raised
    assert store.trajectory(run.id).steps[0].actions[0].ok is False


def test_the_result_is_logged_automatically(store: odograph.Store) -> None:
    """Nobody logs the action; its result is there, as it was when it was returned, with how long it took."""

    @odograph.action
    def buy() -> dict[str, int]:
        return {"n": 1}

    with store.record(task="t") as run, run.step():
        buy()["n"] = 2
    done = store.trajectory(run.id).steps[0].actions[0]
    assert done.result == {"n": 1}
    assert done.duration >= 0


def test_compute_rewards_with_define_reward_function(store: odograph.Store) -> None:
    """The page's function, by `reward_function(name=, compute=)`: profit is scaled, a loss is punished, run again adds nothing."""
    won, lost = traded(store, 60.0), traded(store, -5.0)
    fn = odograph.reward_function(name="pnl", compute=lambda t: t.result["realized_pnl"] / 100 if t.result["pnl"] > 0 else -0.5)
    store.score(fn)
    assert [store.trajectory(t.id).rewards["pnl"] for t in (won, lost)] == [0.6, -0.5]
    assert store.score(fn).records == 0


def test_export_to_huggingface_and_its_options(store: odograph.Store, tmp_path: Path) -> None:
    """min_reward, max_trajectories and format="parquet": as said, and no more."""
    pytest.importorskip("pyarrow")
    for pnl in (90.0, 80.0, 70.0, 10.0, -5.0):
        traded(store, pnl)
    store.score(trading_reward)
    found = odograph.export_to_huggingface(store, tmp_path / "ds", min_reward=0.5, max_trajectories=2, format="parquet")
    assert [p.suffix for p in (tmp_path / "ds" / "data").iterdir()] == [".parquet"]
    assert found.manifest["rows"] == 2
    assert min(row["reward"] for row in rows_of(tmp_path / "ds")) >= 0.5


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A server that speaks the Hub's protocol."""
    pytest.importorskip("huggingface_hub")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        for name, value in {"HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield server


def test_upload_to_huggingface(store: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """`dataset.upload(repo)`: the repository holds the files of the folder, byte for byte."""
    pytest.importorskip("pyarrow")
    traded(store, 60.0)
    found = odograph.export_to_huggingface(store, tmp_path / "ds")
    assert "org/babylon-trading-trajectories" in found.upload("org/babylon-trading-trajectories")
    there = hub.repos["org/babylon-trading-trajectories"].branches["main"]
    for file in ("README.md", "manifest.json", found.manifest["files"][0]["path"]):
        assert there[file] == (tmp_path / "ds" / file).read_bytes()


# --- Verify data quality ----------------------------------------------------------------------------------------------


def test_verify_all_required_fields_present(store: odograph.Store) -> None:
    t = traded(store, 1.0).to_dict()
    assert odograph.validate_trajectory(t, profile="basic").valid
    del t["steps"][0]["contexts"][0]["provider"]
    assert {f.code for f in odograph.validate_trajectory(t).errors} == {"schema"}


def test_verify_data_types_correct(store: odograph.Store) -> None:
    t = traded(store, 1.0).to_dict()
    t["steps"][0]["actions"][0]["duration"] = "long"
    (found,) = odograph.validate_trajectory(t, profile="basic").errors
    assert found.code == "schema"
    assert "duration" in found.path + found.message


def test_verify_timestamps_valid(store: odograph.Store) -> None:
    t = traded(store, 1.0).to_dict()
    t["steps"][0]["llm_calls"][0]["time"] = 1
    assert {f.code for f in odograph.validate_trajectory(t, profile="basic").errors} == {"time_order"}


def test_verify_rewards_computed(store: odograph.Store) -> None:
    """A finished trajectory without a reward is an error for RL; with one there is none."""
    t = traded(store, 60.0)
    assert [f.code for f in odograph.validate_trajectory(t, profile="rl").errors] == ["reward_missing"]
    store.score(trading_reward)
    assert odograph.validate_trajectory(store.trajectory(t.id), profile="rl").valid


def test_verify_export_format_correct(store: odograph.Store, tmp_path: Path) -> None:
    """An export is what its manifest says; one byte changed is found, by the command, too."""
    traded(store, 60.0)
    store.export(tmp_path / "out", "hf", format="jsonl")
    assert command(store, "validate", "--export", str(tmp_path / "out")).returncode == 0
    with (tmp_path / "out" / "data" / "train.jsonl").open("ab") as file:
        file.write(b"x")
    done = command(store, "validate", "--export", str(tmp_path / "out"), "--json")
    assert done.returncode == 1
    assert [f["code"] for f in json.loads(done.stdout)["findings"]] == ["unreadable_export"]


# --- Data requirements ------------------------------------------------------------------------------------------------


def test_required_of_provider_data(store: odograph.Store) -> None:
    """providerName, data, purpose, timestamp; a read without a purpose is pointed out."""
    found = traded(store, 1.0).to_dict()["steps"][0]["contexts"][0]
    assert all(found[name] for name in ("provider", "data", "purpose", "time"))
    with store.record(task="t") as run, run.step() as step:
        step.context("balance", 5)
    assert "context_purpose" in {f.code for f in odograph.validate(store.trajectory(run.id)).warnings}


def test_required_of_a_llm_call(store: odograph.Store) -> None:
    """model, systemPrompt, userPrompt, response, thinking?, timestamp."""
    t = traded(store, 1.0, None)
    found = t.to_dict()["steps"][0]["llm_calls"][0]
    assert (found["model"], [m["role"] for m in found["request"]["messages"]]) == ("gpt-5.1", ["system", "user"])
    assert found["response"] and found["time"]
    assert t.llm_calls[0].reasoning is None  # thinking is optional, and not made up
    assert odograph.validate(t, profile="sft").valid


def test_required_of_an_action_result(store: odograph.Store) -> None:
    """action, params, result, success, timestamp; params and result may be anything."""
    with store.record(task="t") as run, run.step() as step:
        for result in (None, 0, False, "", [1, {"a": None}]):
            step.action("X", {"p": [result]}, result, ok=True)
    found = store.trajectory(run.id).to_dict()["steps"][0]["actions"]
    assert [(a["name"], a["ok"], a.get("result"), a["arguments"]) for a in found] == [
        ("X", True, r, {"p": [r]}) for r in (None, 0, False, "", [1, {"a": None}])
    ]
    assert all(a["time"] for a in found)


# --- Training pipeline ------------------------------------------------------------------------------------------------


def test_time_range_takes_the_last_seven_days(store: odograph.Store, tmp_path: Path) -> None:
    traded(store, 60.0)
    for days in (6, 8):
        call = {"request": {"messages": [{"role": "user", "content": "q"}]}, "response": "a"}
        start = {"source_time": time.time_ns() - days * 86_400 * 10**9}
        store.add({"id": f"of-day-{days}", "start": start, "steps": [{"llm_calls": [call]}]})
    found = odograph.export_to_huggingface(store, tmp_path / "ds", time_range="7d", format="jsonl")
    assert found.manifest["trajectories"]["out"] == 2


def test_dataset_structure_prompt_response_reward_context_metadata(store: odograph.Store, tmp_path: Path) -> None:
    """A row: system and user prompts, the response, the computed reward, the provider's data, and times and agent."""
    t = traded(store, 60.0)
    store.score(trading_reward)
    odograph.export_to_huggingface(store, tmp_path / "ds", include_metadata=True)
    (row,) = rows_of(tmp_path / "ds")
    assert list(row) == ["prompt", "response", "reward", "context", "metadata"]
    assert (row["prompt"], row["response"], row["reward"]) == (f"{SYSTEM}\n\n{USER}", '{"market": "rain"}', 0.6)
    (read,) = json.loads(row["context"])
    assert (read["provider"], read["data"], read["purpose"]) == ("market_data", MARKETS, WHY)
    about = json.loads(row["metadata"])
    assert (about["trajectory"], about["agent"]) == (t.id, "trader")
    assert about["time"].startswith("20")


def test_include_metadata_false_leaves_it_out(store: odograph.Store, tmp_path: Path) -> None:
    traded(store, 60.0)
    odograph.export_to_huggingface(store, tmp_path / "ds", include_metadata=False)
    assert list(rows_of(tmp_path / "ds")[0]) == ["prompt", "response", "reward", "context"]


def test_training_with_art(store: odograph.Store, tmp_path: Path) -> None:
    """Which groups ART would train is said without ART; with it, the groups load as its own classes, with their rewards."""
    for n in range(3):
        with store.record(task="t", agent="a", group="day-1") as run:
            with run.step() as step:
                tokens = {"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-0.1, -0.2]}
                step.llm_call(model="m", messages=[{"role": "user", "content": "trade"}], response="ok", **tokens)
            run.reward(0.7 + n / 10)
    traded(store, 60.0, group="no tokens")
    plans = {p.group: p for p in store.dry_run("art")}
    assert plans["day-1"].trains
    assert not plans["no tokens"].trains and plans["no tokens"].why
    store.export(tmp_path / "art", "art", min_reward=0.75)
    (line,) = (tmp_path / "art" / "data" / "train.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert sorted(t["reward"] for t in found["trajectories"]) == pytest.approx([0.8, 0.9])
    assert found["metadata"]["scenario"] == "day-1"  # tests/trainers/test_loaders.py: ART loads it


# --- Best practices ---------------------------------------------------------------------------------------------------


def test_log_everything_what_was_not_logged_is_not_in_the_data(store: odograph.Store) -> None:
    """`@odograph.context` logs a read by itself: what was asked, what came back, and why it was read."""

    @odograph.context(provider="balance_check", purpose="Verify sufficient funds before trading")
    def balance(account: str) -> float:
        return 0.0

    with store.record(task="t") as run, run.step():
        assert balance("mine") == 0.0
    (read,) = store.trajectory(run.id).steps[0].contexts
    assert (read.provider, read.query, read.data) == ("balance_check", {"account": "mine"}, 0.0)
    assert read.purpose == "Verify sufficient funds before trading"


def test_capture_reasoning(store: odograph.Store) -> None:
    """Thinking reaches a reward function as `t.llm_call.thinking`; where it was skipped it is None."""
    seen: list[str | None] = []
    traded(store, 1.0, "high confidence")
    traded(store, 1.0, None)
    store.score(odograph.reward_function(name="look", compute=lambda t: seen.append(t.llm_call.thinking)))
    assert sorted(seen, key=str) == [None, "high confidence"]


def test_compute_meaningful_rewards(store: odograph.Store) -> None:
    """The library's profit by stake: a gain by what was invested, -0.5 for a loss; never merely 1 or 0."""
    won, lost = traded(store, 60.0), traded(store, -5.0)
    store.score(rewards.profit.using(loss=-0.5))
    values = [store.trajectory(t.id).reward for t in (won, lost)]
    assert values == [1.5, -0.5]


# --- Integration, advanced features -----------------------------------------------------------------------------------


def test_reward_computed_from_eventual_profit_by_another_process_later(store: odograph.Store, tmp_path: Path) -> None:
    """Not known is no reward, and not 0; when the outcome is known, another process back-fills it; then nothing is left."""
    t = traded(store, 1.0)
    outcome = tmp_path / "outcome"
    (tmp_path / "later.py").write_text(
        "from pathlib import Path\nimport odograph\n\n@odograph.reward\ndef eventual(t):\n"
        f"    p = Path({str(outcome)!r})\n    return float(p.read_text()) if p.exists() else None\n"
    )
    words = ("score", f"{tmp_path / 'later.py'}:eventual", "--json")
    assert command(store, *words).returncode == 0
    assert store.trajectory(t.id).reward is None
    outcome.write_text("0.25")
    assert command(store, *words).returncode == 0
    assert store.trajectory(t.id).reward == 0.25
    assert json.loads(command(store, *words).stdout)["records"] == 0


def test_multi_factor_reward_functions(store: odograph.Store) -> None:
    """The page's three components, summed and clamped to [-1, 1]."""

    def compute(t: odograph.Trajectory) -> float:
        total = 0.0
        if t.result["pnl"] > 0:
            total += 0.5 * t.result["pnl"] / t.result["investment"]
        if t.result["execution_time"] < 1000:
            total += 0.25
        if "high confidence" in (t.llm_call.reasoning or ""):
            total += 0.25
        return min(1.0, max(-1.0, total))

    made = [traded(store, 20.0), traded(store, -5.0, None, 40.0, 2000.0), traded(store, 400.0)]
    store.score(odograph.reward_function(name="multi_factor_trading", compute=compute))
    assert [store.trajectory(t.id).reward for t in made] == [0.75, 0.0, 1.0]


@pytest.mark.parametrize("kind", ["missing", "type", "timestamp", "json"])
def test_validate_trajectory_tells_its_four_kinds_of_errors(store: odograph.Store, kind: str) -> None:
    """Missing required fields, invalid data types, timestamp issues, malformed JSON: one error each, with where and what."""
    t = traded(store, 1.0)
    data = t.to_dict()
    if kind == "json":
        with next((store.root / "journal").glob("*.jsonl")).open("ab") as file:
            file.write(b'{"kind": "reward", oops}\n')
        report = store.validate(profile="basic")
    else:
        if kind == "missing":
            del data["steps"][0]["actions"][0]["name"]
        elif kind == "type":
            data["steps"][0]["actions"][0]["name"] = 5
        else:
            data["end"]["time"] = data["start"]["time"] - 1
        report = odograph.validate_trajectory(data, profile="basic")
    assert not report.valid
    wanted = {"missing": "schema", "type": "schema", "timestamp": "time_order", "json": "malformed_json"}[kind]
    assert wanted in {f.code for f in report.errors}
    assert all(f.path and f.message for f in report.errors)


# --- What the page claims, and the code behind it never did (the rest of that list is tested above) --------------------


def test_every_name_of_the_page_exists() -> None:
    """In Python's spelling, they are what `odograph` shows, and docs/trading.md says which is which."""
    told = (ROOT / "docs" / "trading.md").read_text()
    for theirs, ours in (
        ("wrapActionWithLogging", "wrap_action"),
        ("logLLMCallFromAction", "log_llm_call"),
        ("logProviderFromAction", "log_context"),
        ("defineRewardFunction", "reward_function"),
        ("exportToHuggingFace", "export_to_huggingface"),
        ("validateTrajectory", "validate_trajectory"),
    ):
        assert callable(getattr(odograph, ours)) and ours in odograph.__all__
        (line,) = [line for line in told.splitlines() if line.startswith(f"| `{theirs}")]
        assert f"`odograph.{ours}(" in line


# --- What it did wrong ------------------------------------------------------------------------------------------------


def test_temperature_0_stays_0(store: odograph.Store, tmp_path: Path) -> None:
    with store.record(task="t") as run, run.step() as step:
        step.llm_call(
            model="m", messages=[{"role": "user", "content": "q"}], response="a", params={"temperature": 0, "top_p": 0.0}
        )
    call = store.trajectory(run.id).llm_calls[0]
    assert (call.params["temperature"], call.params["top_p"]) == (0, 0.0)
    assert "temperature" not in traded(store, 1.0).llm_calls[0].params  # and what was not said is not made up


def test_profit_0_is_0_and_not_unknown(store: odograph.Store, tmp_path: Path) -> None:
    """In the action's result, as a reward, in an export and in the statistics."""
    t = traded(store, 0.0)
    store.score(odograph.reward_function(name="pnl", compute=lambda t: t.result["realized_pnl"]))
    t = store.trajectory(t.id)
    assert (t.result["realized_pnl"], t.reward) == (0.0, 0.0)
    assert store.stats().whole.reward.null == 0
    store.export(tmp_path / "out", "hf", format="jsonl", min_reward=0.0)
    assert json.loads((tmp_path / "out" / "data" / "train.jsonl").read_text())["reward"] == 0.0


@pytest.mark.parametrize("to", ["hf", "openai", "trl-sft"])
def test_no_assistant_text_is_invented(store: odograph.Store, tmp_path: Path, to: str) -> None:
    """A decision without a recorded answer gives no row: no text stands for it, such as "I will BUY_SHARES"."""
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], error="no answer")
        step.action("BUY_SHARES", {"n": 1}, "bought", ok=True)
    store.export(tmp_path / "out", to, format="jsonl")
    data = tmp_path / "out" / "data"
    assert "".join(p.read_text() for p in data.glob("*")) == "" if data.exists() else True


def test_what_is_in_no_group_is_merged_into_none(store: odograph.Store, tmp_path: Path) -> None:
    """Not into "default": each stays alone, and the statistics have them under null."""
    traded(store, 1.0)
    traded(store, 2.0)
    traded(store, 3.0, group="g")
    assert {p.key: p.trajectories for p in store.stats("group").parts} == {None: 2, "g": 1}
    assert [g.name for g in store.groups(min_size=1)] == ["g"]


def test_outcomes_are_never_in_training_prompts(store: odograph.Store, tmp_path: Path) -> None:
    """Not the result, the reward or the answer; and a prompt that holds one is an error."""
    t = traded(store, 61.2345678)
    store.append(t.id).reward(0.612345678)
    store.export(tmp_path / "out", "hf", format="jsonl")
    assert "61.23" not in json.loads((tmp_path / "out" / "data" / "train.jsonl").read_text())["prompt"]
    with store.record(task="t", metadata={"outcome": "the market resolved to yes"}) as run, run.step() as step:
        asked = [{"role": "user", "content": "Know that the market resolved to yes. Decide."}]
        step.llm_call(model="m", messages=asked, response="buy")
    assert [f.code for f in odograph.validate(store.trajectory(run.id)).errors] == ["hindsight_leak"]


def test_splits_are_by_group_and_never_by_row(store: odograph.Store, tmp_path: Path) -> None:
    for n in range(40):
        traded(store, float(n), group=f"g{n % 10}")
    store.export(tmp_path / "out", "hf", format="jsonl", splits={"train": 0.5, "test": 0.5}, seed=3)
    sides = {
        name: {json.loads(json.loads(line)["metadata"])["group"] for line in path.read_text().splitlines()}
        for name in ("train", "test")
        for path in [tmp_path / "out" / "data" / f"{name}.jsonl"]
    }
    assert sides["train"] and sides["test"]
    assert not sides["train"] & sides["test"]


def test_length_breaks_no_ties_in_rewards(store: odograph.Store) -> None:
    """Two trajectories with the same outcome have the same reward, however long they are; the group is told as of no variance."""
    for steps in (1, 9):
        with store.record(task="t", group="g") as run:
            for _ in range(steps):
                with run.step() as step:
                    step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a" * steps)
            run.reward(1.0, name="outcome")
    assert {t.reward for t in store.trajectories()} == {1.0}
    assert [f.message for f in store.validate().warnings if f.code == "group"] == [
        "group g: all 2 rewards are 1: no advantage comes of it"
    ]


def test_llm_calls_are_captured_as_they_cross_the_wire(store: odograph.Store) -> None:
    """With a client in `wrap`, every call is there: nothing has to be logged by hand in production."""
    openai = pytest.importorskip("openai")
    with LLMServer([Answer(text="buy", reasoning="sure")]) as server:
        client = odograph.wrap(openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))
        with store.record(task="t") as run, run.step():
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], temperature=0)
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.request["temperature"], call.request) == ("buy", 0, server.requests[0][1])


def test_nothing_is_in_memory_only_until_the_end(tmp_path: Path) -> None:
    """A process that is killed in the middle of a trajectory has lost nothing of what it had logged."""
    script = (
        "import sys, time, odograph\n"
        f"store = odograph.open({str(tmp_path / 'store')!r})\n"
        "run = store.record(task='t').__enter__()\n"
        "with run.step() as step:\n"
        "    step.context('market_data', 1, purpose='p')\n"
        "    step.action('BUY_SHARES', {}, 'bought', ok=True)\n"
        "    print('logged', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"logged\n"
        process.send_signal(signal.SIGKILL)
    with odograph.open(tmp_path / "store") as store:
        (t,) = store.trajectories()
        assert (t.status, t.steps[0].contexts[0].data, t.steps[0].actions[0].result) == ("unterminated", 1, "bought")


def test_a_reward_that_is_no_number_is_refused(store: odograph.Store) -> None:
    """NaN from a reward function fails its trajectory alone, with the reason."""
    t = traded(store, 1.0)
    report = store.score(odograph.reward_function(name="bad", compute=lambda t: float("nan")))
    assert len(report.failed) == 1
    assert store.trajectory(t.id).reward is None
    with store.append(t.id) as run, pytest.raises(TypeError, match=r"^weight is a finite number, not nan$"):
        run.reward(1.0, weight=float("nan"))


# --- The example: from logs to a dataset in one command ---------------------------------------------------------------


def example(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The trading example in a process of its own, in a folder."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "HF_HOME": str(folder / "home")}
    line = [sys.executable, "-m", "examples.trading", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_example_runs_from_logs_to_a_dataset_in_one_command(tmp_path: Path) -> None:
    """It records, waits for the outcomes, scores, validates and exports; what it wrote loads. Again is a clear error."""
    pytest.importorskip("datasets")
    done = example(tmp_path, "--days", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "would train with art" in done.stdout
    found = rows_of(tmp_path / "trading" / "dataset")
    assert f"loaded with datasets: {len(found)} rows" in done.stdout
    assert found and all(row["reward"] >= 0.5 and "prediction market" in row["prompt"] for row in found)
    again = example(tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].endswith("'trading' is there already; name another --out")


def test_the_example_with_nothing_to_keep_says_so(tmp_path: Path) -> None:
    """No day, no rows: that is said, without a traceback."""
    pytest.importorskip("datasets")
    done = example(tmp_path, "--days", "0")
    assert "Traceback" not in done.stderr
    assert "nothing earned" in done.stdout


# --- The page's own words, sentence by sentence -----------------------------------------------------------------------


class Runtime:
    """What elizaOS hands to a handler."""

    async def use_model(self, **asked: Any) -> dict[str, Any]:
        return {"reasoning": "high confidence", "params": {"marketId": "rain", "outcome": "YES", "amount": 40}}


async def page(runtime: Runtime, message: Any, state: Any, options: Any = None, callback: Any = None) -> dict[str, Any]:
    """The page's handler: `response: decision` is an object, `thinking: decision.reasoning`."""
    odograph.log_context("market_data", MARKETS, purpose=WHY)
    decision = await runtime.use_model(system_prompt=SYSTEM, user_prompt=USER)
    odograph.log_llm_call(
        model="gpt-5.1", system_prompt=SYSTEM, user_prompt=USER, response=decision, thinking=decision["reasoning"]
    )
    return {**decision["params"], "realizedPnL": 60.0, "success": True}


def as_the_page_does(store: odograph.Store) -> odograph.Trajectory:
    wrapped = odograph.wrap_action(page, name="BUY_SHARES", ignore=("runtime", "callback"))
    with store.record(task="trade", agent="trader", metadata={"venue": "babylon"}) as run:
        with run.step():
            asyncio.run(wrapped(Runtime(), {"text": "trade"}, {}, None, print))
        run.reward(0.6, name="pnl")
    return store.trajectory(run.id)


def test_wrap_your_actions_as_the_page_does(store: odograph.Store) -> None:
    """Handlers get runtime, message, state, options and callback; runtime and callback are no data."""
    t = as_the_page_does(store)
    assert t.actions[0].arguments == {"message": {"text": "trade"}, "state": {}, "options": None}
    assert odograph.validate_trajectory(t).findings == []


def test_name_and_description_of_an_action(store: odograph.Store) -> None:
    """`wrapActionWithLogging({name, description, handler})`: both are on record."""
    done = traded(store, 1.0).actions[0]
    assert (done.name, done.extra) == ("BUY_SHARES", {"description": "Buy prediction market shares"})


def test_integration_with_babylon(store: odograph.Store) -> None:
    """The page's second handler: four arguments and no callback, the system prompt of the character, the result of the trade, and a
    reward of the eventual P&L."""

    class Babylon(Runtime):
        def __init__(self) -> None:
            self.character = {"system": SYSTEM}

    async def handler(runtime: Babylon, message: Any, state: Any, options: Any) -> dict[str, Any]:
        odograph.log_context("babylon_markets", MARKETS, purpose="Analyze prediction markets for trading")
        decision = await runtime.use_model(system_prompt=runtime.character["system"], user_prompt=USER)
        system = runtime.character["system"]
        odograph.log_llm_call(
            model="gpt-5.1", system_prompt=system, user_prompt=USER, response=decision, thinking=decision["reasoning"]
        )
        return {"shares": decision["params"]["amount"]}

    wrapped = odograph.wrap_action(handler, name="BABYLON_TRADE", ignore=("runtime",))
    with store.record(task="trade", agent="trader") as run, run.step():
        assert asyncio.run(wrapped(Babylon(), {"text": "go"}, {}, None)) == {"shares": 40}
    t = store.trajectory(run.id)
    assert (t.contexts[0].provider, t.llm_calls[0].messages[0]["content"], t.result) == (
        "babylon_markets",
        SYSTEM,
        {"shares": 40},
    )
    assert t.reward is None
    pnl, stake = 10.0, 40.0
    store.score(odograph.reward_function(name="pnl", compute=lambda t: pnl / stake if pnl > 0 else -0.5))
    assert store.trajectory(run.id).reward == 0.25


def test_response_decision_is_an_object_and_a_row(store: odograph.Store, tmp_path: Path) -> None:
    """The decision is kept as it is, and the row's response is its JSON, with the full reward."""
    t = as_the_page_does(store)
    store.export(tmp_path / "out", "hf", format="jsonl")
    (row,) = map(json.loads, (tmp_path / "out" / "data" / "train.jsonl").read_text().splitlines())
    assert json.loads(row["response"]) == t.llm_calls[0].response
    assert (row["prompt"], row["reward"]) == (f"{SYSTEM}\n\n{USER}", 0.6)


def test_include_thinking_process_important(store: odograph.Store, tmp_path: Path) -> None:
    """The five columns stay; thinking and the run's own metadata stand in the column `metadata`."""
    as_the_page_does(store)
    store.export(tmp_path / "out", "hf", format="jsonl")
    (row,) = map(json.loads, (tmp_path / "out" / "data" / "train.jsonl").read_text().splitlines())
    assert list(row) == ["prompt", "response", "reward", "context", "metadata"]
    about = json.loads(row["metadata"])
    assert (about["reasoning"], about["run"], about["agent"]) == ("high confidence", {"venue": "babylon"}, "trader")


def test_did_it_work_is_what_the_result_says(store: odograph.Store) -> None:
    """`success: boolean // Did it work?`: an ActionResult that says no is no success, though nothing was raised."""
    failed = odograph.wrap_action(lambda: {"success": False, "error": "no funds"}, name="BUY_SHARES")
    with store.record(task="t") as run, run.step():
        failed()
    store.score("success")
    t = store.trajectory(run.id)
    assert (t.actions[0].ok, t.reward) == (False, 0.0)


def test_rewards_computed_whole_or_not_at_all(store: odograph.Store) -> None:
    """A component that broke, or is not known yet, gives no smaller reward."""
    t = as_the_page_does(store)
    store.append(t.id).reward(float("nan"), name="judge", source="judge")
    assert store.trajectory(t.id).reward is None
    store.append(t.id).reward(0.1, name="judge", source="judge")
    assert store.trajectory(t.id).reward == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("llm_calls", "model"),
        ("llm_calls", "user_prompt"),
        ("llm_calls", "response"),
        ("actions", "ok"),
        ("contexts", "purpose"),
    ],
)
def test_all_required_fields_present_of_a_dict(part: str, key: str) -> None:
    """`validateTrajectory(trajectory)` of what somebody wrote down: what the page requires of a decision is asked for."""
    step: dict[str, Any] = {
        "contexts": [{"provider": "market_data", "data": MARKETS, "purpose": WHY}],
        "llm_calls": [{"model": "gpt-5.1", "system_prompt": SYSTEM, "user_prompt": "Decide.", "response": {"a": 1}}],
        "actions": [{"name": "BUY", "arguments": {}, "result": None, "ok": True}],
    }
    data = {"task": "t", "agent": "a", "reward": 1.0, "steps": [step]}
    assert odograph.validate_trajectory(data).findings == []
    del step[part][0][key]
    (found,) = odograph.validate_trajectory(data).findings
    assert found.path.startswith(f"steps[0].{part}[0]")


@pytest.mark.parametrize("name", ["providerName", "systemPrompt", "userPrompt", "success", "params", "timestamp"])
def test_the_pages_own_names_are_told_ours(name: str) -> None:
    """A dict in the page's shape is refused with the name that is meant, not half read."""
    kind = {"providerName": "contexts", "success": "actions", "params": "actions"}.get(name, "llm_calls")
    found = odograph.validate_trajectory({"task": "t", "steps": [{kind: [{name: 1}]}]}).errors
    assert [f.code for f in found] == ["schema"] and "did you mean" in found[0].message
