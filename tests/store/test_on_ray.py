"""Work over a store on a Ray cluster of two nodes on this machine: the same results as here."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph

from .test_sealing import fill

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, with a CPU each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    try:
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(params=["folder", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> odograph.Store:
    """70 sealed trajectories, two that are not sealed, and a late reward that is not."""
    if request.param == "folder":
        made = odograph.open(tmp_path / "store")
    else:
        pytest.importorskip("pyiceberg")
        made = odograph.open(f"file://{tmp_path}/runs", catalog=f"sqlite:///{tmp_path}/catalog.db", local=tmp_path / "machine")
    ids = fill(made, 70, steps=2)
    made.seal()
    made.append(ids[3]).reward(9.0, name="late")
    fill(made, 2)
    return made


def length(t: odograph.Trajectory) -> float:
    return float(len(t.steps)) + (t.reward or 0.0)


def test_score_validate_and_export_give_the_same(cluster: Any, store: odograph.Store, tmp_path: Path) -> None:
    """`runner="ray"` gives the findings, rewards and files that this process gives, of what is sealed and of what is not."""
    here, there = store.validate(workers=1), store.validate(runner="ray")
    assert (there.checked, there.counts) == (here.checked, here.counts)
    for to in ("jsonl", "openai"):
        store.export(tmp_path / "here", to=to)
        store.export(tmp_path / "there", to=to, runner="ray")
        for path in (tmp_path / "here").rglob("*.jsonl"):
            same = tmp_path / "there" / path.relative_to(tmp_path / "here")
            assert same.read_bytes() == path.read_bytes()
    (tmp_path / "own.py").write_text("def length(t):\n    return float(len(t.steps)) + (t.reward or 0.0)\n")
    function = f"{tmp_path}/own.py:length"
    expected = {t.id: length(t) for t in store.trajectories()}
    report = store.score(function, runner="ray")
    assert (report.scored, report.failed) == (72, [])
    assert {t.id: next(r.value for r in t.rewards if r.name == "length") for t in store.trajectories()} == expected


def test_a_function_that_fails_is_told(cluster: Any, store: odograph.Store) -> None:
    """A runner that is none, and objects that can't travel, are refused in a sentence."""

    def nested(t: odograph.Trajectory) -> float:
        return 1.0

    with pytest.raises(odograph.InvalidInput, match="no runner 'rya'; there are: processes, ray; did you mean 'ray'"):
        store.validate(runner="rya")
    with pytest.raises(odograph.InvalidInput, match="can't be sent"):
        store.score(nested, runner="ray")


def test_daft_on_ray_gives_the_same_figures(cluster: Any, store: odograph.Store, tmp_path: Path) -> None:
    """Daft on two nodes reads the tables and counts what DuckDB counts here; a scan of many rows stays within bounds of memory."""
    code = """
        import json, sys, daft, ray, resource
        address, place = sys.argv[1:]
        import msgspec, odograph
        from odograph.store.opening import reopened
        ray.init(address=address, log_to_driver=False)
        daft.set_runner_ray(address)
        store = odograph.Store(reopened(place.encode()))
        facts = store.frame("facts")
        found = facts.groupby("kind").agg(daft.col("kind").count().alias("n"), daft.col("prompt_tokens").sum().alias("t")).to_pydict()
        print(json.dumps({"rows": sorted(zip(*found.values())), "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}, default=str))
    """
    place = msgspec.json.encode(store.backend.place).decode()
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), cluster.address, place], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    here = store.sql("select kind, count(*) as n, sum(prompt_tokens)::bigint as t from facts group by kind order by kind").list()
    assert found["rows"] == [[row["kind"], row["n"], row["t"]] for row in here]
    assert found["mb"] < 1500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 < 3000
