"""Labelling by actors on a cluster of two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

pytest.importorskip("daft")
pytest.importorskip("ray")

from odograph import Budget
from odograph.errors import InvalidInput
from odograph.worlds import Label, LabelingConfig, LabelingProcessor, StorageConfig, SyncWorldRuntime

from .judge_server import JudgeServer, Say, verdict
from .test_labelling import trajectory


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, with bounded memory."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    about = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=about)
    made.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def world(runtime: SyncWorldRuntime, at: Path, server: JudgeServer, count: int, name: str = "w", **config: Any) -> Any:
    about = {"base_url": server.url, "api_key": "x", "max_retries": 0, "progress": False, "max_concurrency": 8, "workers": 2}
    made = runtime.world(name, StorageConfig(at), [LabelingProcessor()], [LabelingConfig(**{**about, **config})])
    made.spawn_many((trajectory(f"t{n}"), Label(technique="a", description="d")) for n in range(count))
    return made


def statuses(made: Any) -> Counter[str]:
    return Counter(row["label__status"] for row in made.query(Label).to_pylist())


def asked(server: JudgeServer) -> Counter[str]:
    return Counter(server.prompts)


@pytest.mark.slow
def test_actors_divide_bounds_and_pay_nothing_twice(cluster: Any, tmp_path: Path) -> None:
    """The same script with runner="ray": all rows are labelled by two actors, at most as many requests are under way as one process
    would have; another world of the store is answered from the journal that the actors wrote."""
    with SyncWorldRuntime(runner="ray") as runtime, JudgeServer(delay=0.02) as server:
        made = world(runtime, tmp_path, server, 700)
        made.step()
        assert statuses(made) == {"ok": 700} and set(asked(server).values()) == {1}
        assert 4 < server.most <= 8
        assert len(list((tmp_path / "judge").glob("*.jsonl"))) == 2
        again = world(runtime, tmp_path, server, 700, "again")
        again.step()
        assert statuses(again) == {"ok": 700} and len(server) == 700


@pytest.mark.slow
def test_a_killed_actors_part_is_done_by_others(cluster: Any, tmp_path: Path) -> None:
    """SIGKILL of an actor in the middle: its part is done by others, and what it was answered is not asked again, but for requests
    that were under way."""
    import psutil

    def kill() -> None:
        until(lambda: len(server) >= 60)
        children = psutil.Process().children(recursive=True)
        worker = next(p for p in children if any("ray::Worker" in part for part in p.cmdline()))
        worker.send_signal(signal.SIGKILL)

    with SyncWorldRuntime(runner="ray") as runtime, JudgeServer(delay=0.05) as server:
        made = world(runtime, tmp_path, server, 300)
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        made.step()
        thread.join()
        assert statuses(made) == {"ok": 300}
        assert sum(n - 1 for n in asked(server).values()) <= 8  # under way when it died


@pytest.mark.slow
def test_a_budget_holds_for_all_actors_together(cluster: Any, tmp_path: Path) -> None:
    """A limit of requests is kept to the last one, and none is left over."""
    with SyncWorldRuntime() as runtime, JudgeServer(lambda text: Say("no", 500) if "t7" in text else verdict()) as server:
        budget = Budget(calls=250)
        made = world(runtime, tmp_path, server, 400, runner="ray", budget=budget)
        made.step()
        assert len(server) == 250 == budget.spent["calls"]
        found = statuses(made)
        assert 230 < found["ok"] < 250 and found["http_error"] and found["over_budget"] >= 150  # a failed row may be asked again


_FRAMES = """
import os, sys, daft, ray
from odograph.worlds import AsyncProcessor, Component, StorageConfig, SyncWorldRuntime

class Mood(Component, shared=("story",)):
    node: str = ""
    score: float = 0.0
    story: str = ""

@daft.func
def node(score: float) -> str:
    return f"{ray.get_runtime_context().get_node_id()} {os.getpid()}"

class Where(AsyncProcessor):
    components = (Mood,)
    async def process(self, df, resources=None, **kwargs):
        return df.into_partitions(8).with_column("mood__node", node(daft.col("mood__score")))

with SyncWorldRuntime(runner="ray") as runtime:
    world = runtime.world("w", StorageConfig(sys.argv[1]), [Where()])
    world.spawn_many([(Mood(score=n / 4, story=f"story {n % 3}"),) for n in range(400)])
    assert {row["mood__story"] for row in world.query(Mood).to_pylist()} == {f"story {n}" for n in range(3)}  # not written yet
    world.step()
    found = world.query(Mood, tick=0).sort("entity_id").to_pylist()
    assert [(row["mood__score"], row["mood__story"]) for row in found] == [(n / 4, f"story {n % 3}") for n in range(400)]
    where = {tuple(row["mood__node"].split()) for row in found}
    assert str(os.getpid()) not in {pid for _, pid in where}
    print(len({one for one, _ in where}))
"""


@pytest.mark.slow
def test_frames_run_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    """With runner="ray" the frames of processors and queries run on both nodes, and not in the script's process; rows and texts are
    the same, those too that no tick wrote yet."""
    environment = {**os.environ, "DO_NOT_TRACK": "1", "RAY_ADDRESS": cluster.address}
    command = [sys.executable, "-c", _FRAMES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == 2


def test_an_unknown_runner_is_refused() -> None:
    """A sentence says which there are."""
    with pytest.raises(InvalidInput, match="runner is local or ray, not 'spark'"):
        LabelingConfig(runner="spark")
    with pytest.raises(InvalidInput, match="runner is local or ray, not 'spark'"):
        SyncWorldRuntime(runner="spark")
