"""Sealing: what is read before, meanwhile and after is the same, whoever is killed and whoever races."""

from __future__ import annotations

import base64
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odograph
from odograph.cli import main
from odograph.store import committing, compacting, layout, sealing
from odograph.store import lake as lake_module
from odograph.tables import files
from odograph.tables.folder import FolderCommits
from odograph.tables.schema import Table
from odograph.types import Action
from tests.threads import to_a_thread

pytest.importorskip("pyarrow")
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def fill(store: odograph.Store, count: int = 6, steps: int = 3) -> list[str]:
    ids = []
    for i in range(count):
        with store.record(task=f"task {i}", agent=f"agent-{i % 2}", model="m", group=f"g{i % 2}", tags=["all"]) as run:
            history: list[Any] = []
            for k in range(steps):
                history.append({"role": "user", "content": f"where is the needle{i}? é {k}"})
                with run.step(observation="o") as step:
                    step.llm_call(
                        model="m",
                        messages=list(history),
                        response="in the haystack",
                        usage={"prompt_tokens": 10, "completion_tokens": 5},
                    )
                    step.action("search", {"q": i}, "found", ok=True)
            run.reward(i / 3, name="final")
        ids.append(run.id)
    return ids


def seen(store: odograph.Store) -> dict[str, Any]:
    """What all ways of reading say."""
    ids = [s.id for s in store.summaries()]
    used = {id: (sorted(u.uses), u.components) for id, u in store.used(ids).items()}
    return {
        "trajectories": [t.to_dict() for t in store.trajectories()],
        "summaries": list(store.summaries()),
        "used": used,
        "damages": sorted({d.reason for d in store.damages()}),
    }


def journals(store: odograph.Store) -> list[str]:
    return sorted(p.name for p in (store.root / "journal").glob("*.jsonl"))


def cold(store: odograph.Store) -> odograph.Store:
    """The store, opened again without its catalog."""
    store.close()
    for path in store.root.glob("catalog.sqlite*"):
        path.unlink()
    return odograph.open(store.root)


def sealed_rows(store: odograph.Store, table: str) -> list[dict[str, Any]]:
    """What anybody finds in a table of the sealed tier, in the order of the commits."""
    import pyarrow.parquet as parquet

    return [
        row for path in sorted((store.root / "lake" / table).glob("*.parquet")) for row in parquet.read_table(path).to_pylist()
    ]


def warm_and_cold(store: odograph.Store) -> Iterator[odograph.Store]:
    yield store
    yield cold(store)


def test_a_sealed_store_reads_as_before(store: odograph.Store) -> None:
    """Sealing changes no trajectory, list, figure or search, warm and with a new catalog, and leaves no journal."""
    fill(store)
    before, hits = seen(store), {(h.trajectory, h.kind, h.text) for h in store.search("needle3 é")}
    assert store.seal().trajectories == 6
    assert journals(store) == []
    assert hits
    for again in warm_and_cold(store):
        assert seen(again) == before
        assert {(h.trajectory, h.kind, h.text) for h in again.search("needle3 é")} == hits
        assert [s.task for s in again.summaries(text="needle3")] == ["task 3"]


def test_the_figures_of_any_only_reward_are_those_of_before_sealing(store: odograph.Store) -> None:
    """A trajectory's only reward is read from its summary where it says all of the reward: with any weight, value, name, target."""
    abouts: list[dict[str, Any]] = [{}, {"weight": 2.0}, {"weight": 0.0}, {"name": "n"}, {"source": "judge", "author": "j"}]
    for about in [*abouts, {"value": None}, {"value": math.inf}, {"value": 0.0}, {"rationale": "r"}, {"version": "2"}]:
        with store.record(task="t") as run:
            run.reward(**{"value": 1.0} | about)
    for target in (False, True):
        with store.record(task="t") as run, run.step() as step:
            call = step.llm_call(model="m", messages=[], response="a")
            step.reward(0.25, target=call.id if target else None)
    before = store.stats()
    assert len(before.components["reward"].values) == 8
    store.seal()
    assert store.stats() == before == cold(store).stats()


def test_rewards_without_a_value_are_read_as_before_sealing(store: odograph.Store) -> None:
    """Where no trajectory of a file has a reward's value, a new catalog has the names of their rewards all the same."""
    for _ in range(2):
        with store.record(task="t") as run:
            run.reward(None, name="unknown")
    store.append(run.id).reward(None, name="late")  # the other one's last record is its end
    before = seen(store)
    store.seal()
    assert seen(cold(store)) == before


def test_what_is_sealed_is_its_owners_alone(store: odograph.Store) -> None:
    """The sealed tier is its owner's alone where the store is."""
    fill(store, 1)
    store.seal()
    assert (store.root / "lake").stat().st_mode & 0o777 == 0o700


def test_a_store_seals_by_itself_beyond_a_size(tmp_path: Path) -> None:
    """A process that records seals in the background once the journal is larger than `seal_at` says; the setting stays with the store."""
    store = odograph.open(tmp_path / "s", seal_at=1)
    while True:
        fill(store, 1)
        time.sleep(0.1)
        if (store.root / "lake" / "commits.sqlite").exists() and store.backend.reader.lake.files("records"):
            break
        store.backend._measured = -100.0
    assert store.examine()["sealed"]["files"] >= 3
    before = seen(store)
    assert seen(cold(store)) == before
    with pytest.raises(odograph.InvalidInput, match="seal_at=1"):
        odograph.open(store.root, seal_at=5)


def test_messages_that_are_sealed_before_their_call_are_of_the_call(store: odograph.Store, tmp_path: Path) -> None:
    """A killed writer, or another machine's file, can leave messages whose call comes in the next file: a seal in between loses
    nothing, also for a catalog that is made anew."""
    (id,) = fill(store, 1)
    whole, summaries = store.trajectory(id).to_dict(), list(store.summaries())
    store.close()
    path = store.root / "journal" / journals(store)[0]
    header, *lines = path.read_bytes().splitlines(keepends=True)
    messages = [line for line in lines if json.loads(line)["kind"] == "message"]
    assert messages
    new = tmp_path / "new" / "journal"
    new.mkdir(parents=True)
    (new / path.name).write_bytes(header + b"".join(messages))
    with odograph.open(new.parent) as parted:
        parted.seal()
        assert parted.count() == cold(parted).count() == 0
        (row,) = sealed_rows(parted, "trajectories")
        assert [row[name] for name in ("steps", "llm_calls", "actions", "replay", "revision")] == [0, 0, 0, 0, 1]
        rest = (
            msgspec.json.encode({**json.loads(header), "part": 1})
            + b"\n"
            + b"".join(line for line in lines if line not in messages)
        )
        (new / f"{path.stem}.1.jsonl").write_bytes(rest)
        for _ in range(2):
            assert parted.trajectory(id).to_dict() == cold(parted).trajectory(id).to_dict() == whole
            assert list(parted.summaries()) == summaries
            parted.seal()


def test_a_seal_says_what_it_did(store: odograph.Store) -> None:
    """Lines, trajectories, bytes before and after, commits, journals that went and that stay; all is 0 where nothing was to be done."""
    fill(store, 2)
    store.close()
    (path,) = (store.root / "journal").glob("*.jsonl")
    size, lines = path.stat().st_size, path.read_bytes().count(b"\n") - 1  # the first line says whose journal it is
    done = store.seal()
    sealed = sum(path.stat().st_size for path in (store.root / "lake").glob("*/*.parquet"))
    assert msgspec.structs.astuple(done) == (lines, 2, size, sealed, 1, 1, 0)
    assert msgspec.structs.astuple(store.seal()) == (0,) * 7


def test_a_trajectory_in_several_commits_of_a_seal_counts_once(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trajectory whose journals two commits of one seal take is one trajectory of what `seal` returns."""
    with store.record(task="one") as run:
        run.note("here")
    store.close()
    with odograph.open(store.root) as other:
        other.append(run.id).reward(1.0)
        monkeypatch.setattr(sealing, "_ROUND", 1)
        left: list[int] = []
        done = other.seal(progress=lambda *_: left.append(len(journals(other))))
    assert (done.commits, done.trajectories, done.deleted) == (2, 1, 2)
    assert left == [1, 0]  # each goes with its commit: the disk needs no room for all of them


def test_doctor_tells_what_is_sealed_and_repairs(
    store: odograph.Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`odograph seal` seals, `odograph doctor` says how much is not sealed and which sealed file is damaged, `--repair` makes the list anew."""
    ids = fill(store, 2)
    command = ["--store", str(store.root)]
    nothing = {"files": 0, "bytes": 0, "rows": 0, "commits": 0, "last": None, "pending": {}, "orphans": []}
    assert store.examine()["sealed"].items() >= nothing.items()
    store.close()
    assert main([*command, "seal", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trajectories"] == 2
    store.append(ids[0]).reward(1.0)
    store.close()
    assert main([*command, "doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    sealed = facts["sealed"]
    assert (sealed["files"], sealed["commits"], sealed["unsealed_trajectories"], sealed["orphans"]) == (3, 1, 1, [])
    assert abs(sealed["last"] - time.time_ns()) < 86_400 * 10**9
    assert sealed["rows"] == len(sealed_rows(store, "records"))
    assert sealed["unsealed_bytes"] == facts["journal_bytes"] > 0
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    assert main([*command, "doctor"]) == 1
    assert "--repair" in capsys.readouterr().err
    assert main([*command, "doctor", "--repair"]) == 0
    assert "repaired: 3 files of 1 commits" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)  # which a list that is whole, and the catalog, do not need
        assert store.repair() == {"commits": 1, "files": 3, "left": 0, "mended": 0}
    damaged = next((store.root / "lake" / "records").glob("*.parquet"))
    data = bytearray(damaged.read_bytes())
    data[2000] ^= 255
    damaged.write_bytes(data)
    assert main([*command, "doctor"]) == 1
    assert "damaged: lake/records/" in capsys.readouterr().out


def test_tail_shows_what_is_sealed(store: odograph.Store) -> None:
    """The newest records are shown whichever tier they are in; what is sealed between two looks is not missed."""
    fill(store, 2)
    before = [[r.id for r in store.tail(count)] for count in (1, 10, 1000)]
    store.seal()
    assert [[r.id for r in store.tail(count)] for count in (1, 10, 1000)] == before
    tail = store.tail(5)
    fill(store, 1)
    assert len(list(tail)) == 5
    ids = fill(store, 1)
    store.seal()
    assert {r.trajectory for r in tail} == set(ids)


def test_tail_shows_each_record_of_each_writer_once(store: odograph.Store) -> None:
    """In the order of their times: of writers whose files are sealed between two looks and of one whose file stays, of one that ends and of one that comes and goes
    between two looks."""
    with odograph.open(store.root) as before:
        before.record(task="before").finish()
    store.seal()
    ends, stays = (odograph.open(store.root) for _ in range(2))
    runs = [of.record(task="t") for of in (store, ends, stays)]
    tail = store.tail(100)
    shown = [r.id for r in tail]
    runs[1].note("of the one that ends")
    ends.close()
    runs[2].note("of the one that stays")
    shown += [r.id for r in tail]
    runs[0].note("sealed")
    with odograph.open(store.root) as comes:
        comes.record(task="comes and goes").finish()
    store.seal()
    runs[2].note("more")
    runs[0].note("in a new file")
    shown += [r.id for r in tail]
    runs[0].note("more")
    store.seal()
    runs[0].note("in a third file")
    store.seal()
    shown += [r.id for r in tail]
    records = [r for t in store.trajectories() for r in t.records]
    assert shown == [r.id for r in sorted(records, key=lambda r: (r.time, r.writer, r.seq))]


def test_tail_leaves_out_what_is_damaged(store: odograph.Store) -> None:
    """A line that can't be read costs itself: all records before it and behind it are shown once."""
    fill(store, 2)
    store.close()
    before = [r.id for r in store.tail(100)]
    (path,) = (store.root / "journal").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    gone = next(n for n, line in enumerate(lines) if before[len(before) // 2].encode() in line)
    path.write_bytes(b"".join(b"{" * (len(line) - 1) + b"\n" if n == gone else line for n, line in enumerate(lines)))
    assert [r.id for r in store.tail(100)] == [id for id in before if id != before[len(before) // 2]]


def test_a_row_gives_the_line_that_it_was_made_of(store: odograph.Store) -> None:
    """No line of a journal loses a field on its way into the sealed tier and back, the hash of a message neither, whoever made it:
    a row holds only one that its body does not say."""
    fill(store, 1)
    store.close()
    (path,) = (store.root / "journal").glob("*.jsonl")
    lines = path.read_bytes().splitlines()[1:]
    hashes = [h for line in lines if (h := json.loads(line).get("hash")) is not None]
    assert hashes and {layout.row_of(line, "w", 1)["hash"] for line in lines} == {None}
    others = [line.replace(hashes[0].encode(), b"of-another-program") for line in lines]
    for line in [*lines, *others]:
        again = layout.line_of(layout.row_of(line, "w", 1))[2]
        assert {"writer": "w", **json.loads(again)} == {"writer": "w", **json.loads(line)}


def test_a_store_can_be_moved(store: odograph.Store, tmp_path: Path) -> None:
    """A store that was copied elsewhere, without its catalog and its empty folders, reads the same."""
    fill(store)
    before = seen(store)
    store.seal()
    store.close()
    shutil.copytree(store.root, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("catalog.sqlite*", "journal"))
    assert seen(odograph.open(tmp_path / "elsewhere")) == before


def test_what_comes_late_is_found_and_sealed_later(store: odograph.Store) -> None:
    """Rewards, labels and corrections of sealed trajectories are found at once, count once, and survive the next seal and a compaction."""
    ids = fill(store)
    store.seal()
    store.append(ids[0]).reward(7.0, name="late")
    store.append(ids[1]).label("good", "yes")
    records = store.trajectory(ids[2]).complete_records()
    store.add([msgspec.structs.replace(r, result="corrected") if isinstance(r, Action) else r for r in records])
    before = seen(store)
    assert store.trajectory(ids[0]).reward == 7.0
    assert [a.result for step in store.trajectory(ids[2]).steps for a in step.actions] == ["corrected"] * 3
    assert seen(cold(store)) == before
    store.seal()
    assert journals(store) == []
    assert seen(store) == before
    assert seen(cold(store)) == before
    assert store.compact(grace=0).merged
    assert seen(store) == before
    assert seen(cold(store)) == before
    assert len(list((store.root / "lake" / "records").glob("*.parquet"))) == 1


def test_a_running_trajectory_is_sealed_in_parts(store: odograph.Store) -> None:
    """A trajectory that never ends is sealed as it is, and runs on for all who look: nobody else takes its steps. The file that its
    process holds is deleted when it has ended."""
    with store.record(task="endless") as run:
        for part in range(3):
            with run.step(observation=part) as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": "q" * 300}], response=str(part))
            assert store.seal().left == 1
            assert [s.status for s in store.summaries()] == ["running"]
            with odograph.open(store.root) as other:
                assert other.trajectory(run.id).status == "running"
                assert (store.is_written_elsewhere(run.id), other.is_written_elsewhere(run.id)) == (False, True)
        assert store.seal().commits == 0
        with run.step(observation=3) as step:
            step.llm_call(model="m", messages=[{"role": "user", "content": "q" * 300}], response="3")
        assert len(store.trajectory(run.id).steps) == 4
    assert [s.status for s in store.summaries()] == ["completed"]
    before = seen(store)
    assert store.seal().left == 0
    assert journals(store) == []
    store.compact(grace=0)
    assert seen(cold(store)) == before


def test_a_killed_trajectory_that_goes_on_here_runs_through_a_seal(store: odograph.Store) -> None:
    code = f"import odograph, os; odograph.open({str(store.root)!r}).record(task=1).step(observation=1).__enter__(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    (killed,) = store.summaries()
    assert killed.status == "unterminated"
    run = store.append(killed.id)
    run.step(observation=2).__enter__()
    store.seal()
    with odograph.open(store.root) as other:
        assert [s.status for s in other.summaries()] == ["running"]
        assert other.is_written_elsewhere(killed.id)


def test_the_file_of_a_living_writer_is_sealed_and_stays(store: odograph.Store) -> None:
    """What another process recorded is sealed while that process goes on; nothing is seen twice, and nothing is missing."""
    code = f"""
        import odograph, sys
        store = odograph.open({str(store.root)!r})
        for i in range(3):
            with store.record(task=i) as run:
                run.note(i)
            print("done", flush=True)
            sys.stdin.readline()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        for count in range(1, 4):
            writer.stdout.readline()
            told: list[tuple[int, int]] = []
            found = store.seal(progress=lambda *of, told=told: told.append(of))
            assert (found.trajectories, found.left) == (1, 1)
            assert told == [(found.journal_bytes, found.journal_bytes)]
            began = [(store.root / "lake" / name).stat().st_mtime_ns for name in ("records", "README.md")]
            assert store.seal().left == 1
            assert store.examine()["sealed"]["unsealed_bytes"] == 0
            assert [(store.root / "lake" / name).stat().st_mtime_ns for name in ("records", "README.md")] == began
            assert len(seen(store)["trajectories"]) == len(seen(store)["summaries"]) == count
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        writer.stdin.close()
    before = seen(store)
    assert store.seal().deleted == 1
    assert seen(cold(store)) == before


DAMAGED = b'{"kind":"note","id":"x","trajectory":\n\xff\xfe broken\n{"kind":"zebra","trajectory":"t"}\n'


def test_damage_is_kept_and_told(store: odograph.Store, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that can't be read, and a torn end, are reported after sealing as before, by place and reason. Who seals is warned."""
    fill(store, 2)
    store.close()
    path = next((store.root / "journal").glob("*.jsonl"))
    with path.open("ab") as file:
        file.write(
            DAMAGED
            + b'{"kind":"message","trajectory":"t","stream":0,"n":0,"body":1}\n'
            + b'{"kind":"message","trajectory":"t","stream":99999999999999999999,"n":0,"body":1}\n'
            + b'{"kind":"no'
        )
    before = store.damages()
    assert len(before) >= 4
    whole, data = seen(store), path.read_bytes()
    caplog.clear()
    store.seal()
    assert "the journal has damaged lines" in caplog.text
    assert journals(store) == []
    kept = [json.loads(row["body"]) for row in sealed_rows(store, "records") if row["kind"] == layout.DAMAGED]
    assert sorted((one["offset"], one["torn"]) for one in kept) == sorted((d.offset, d.torn) for d in store.damages())
    assert all(base64.b64decode(one["bytes"]) == data[one["offset"] :].partition(b"\n")[0] for one in kept)
    assert {(d.file, d.offset, d.torn) for d in before} <= {(d.file, d.offset, d.torn) for d in store.damages()}
    assert seen(store)["trajectories"] == whole["trajectories"]
    store.append(whole["summaries"][0].id).reward(1.0)
    store.seal()
    store.compact(grace=0)
    assert {(d.file, d.offset, d.torn) for d in before} <= {(d.file, d.offset, d.torn) for d in store.damages()}


STAGES = ["rows", "records", "facts", "trajectories", "commit", "delete"]


def killed(store: odograph.Store, stage: str, what: str = "seal()") -> None:
    code = f"""
        import os, signal, odograph
        from odograph.store import committing
        committing.stage = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == {stage!r} else None
        odograph.open({str(store.root)!r}).{what}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("stage", STAGES)
def test_a_seal_that_is_killed_seals_once(store: odograph.Store, stage: str) -> None:
    """Whenever a sealer is killed, nothing is lost and nothing is there twice, before and after the next seal."""
    ids = fill(store)
    store.seal()
    store.append(ids[0]).reward(2.0, name="late")
    fill(store, 2)
    store.close()
    before = seen(store)
    killed(store, stage)
    assert seen(odograph.open(store.root)) == before
    assert seen(cold(store)) == before
    assert (store.seal().lines == 0) == (stage in ("trajectories", "commit", "delete"))  # what was complete is taken over
    assert journals(store) == []
    assert seen(store) == before
    assert seen(cold(store)) == before
    assert store.backend.reader.lake.commits.orphans() == []


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_a_killed_seal_alone_holds_stays(store: odograph.Store, how: str) -> None:
    """A killed seal left one file of three, and then the journal was lost or cut: no later seal deletes what nothing else holds."""
    fill(store, 1)
    store.close()
    killed(store, "records")
    (path,) = (store.root / "journal").glob("*.jsonl")
    path.unlink() if how == "gone" else path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    fill(store, 1)
    store.seal()
    assert [path.parent.name for path in store.backend.reader.lake.commits.orphans()] == ["records"]


def test_files_that_are_brought_back_of_lines_that_were_sealed_anew_go(
    store: odograph.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of an earlier sealed tier over a new one doubles nothing, and leaves nothing, while the journal or the new files hold it."""
    with store.record(task="holds the journal"):
        (id,) = fill(store, 1)
        store.seal()
        store.backend.reader.lake.close()
        (store.root / "lake").rename(store.root / "copy")
        again = odograph.open(store.root)
        again.seal()
        before = seen(again)
        shutil.copytree(store.root / "copy", store.root / "lake", dirs_exist_ok=True, ignore=shutil.ignore_patterns("commits*"))
        again.append(id).reward(1.0, name="late")
        again.seal()
        assert again.backend.reader.lake.commits.orphans() == [] and "can't take in" not in caplog.text
        assert [len(one["steps"]) for one in seen(again)["trajectories"]] == [len(one["steps"]) for one in before["trajectories"]]


@pytest.mark.parametrize("table", ["trajectories", "records"])
def test_a_seal_that_a_damaged_file_stops_leaves_nothing_behind(store: odograph.Store, table: str) -> None:
    """Where the summary of a sealed trajectory can't be read, or, for a correction, its records, more of it is not sealed: the journal
    stays, and no file that was begun."""
    (id,) = fill(store, 1, steps=1)
    first = store.trajectory(id).to_dict()
    store.seal()
    store.add({**first, "end": {**first["end"], "status": "failed"}})
    store.close()  # what was read of the files goes from memory
    (path,) = (store.root / "lake" / table).glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(odograph.StoreError, match="nothing that was recorded since is lost: `odograph doctor --repair`"):
        store.seal()
    assert store.backend.reader.lake.commits.orphans() == []
    assert len(journals(store)) == 1


def test_how_far_others_counted_is_forgotten_in_time(store: odograph.Store) -> None:
    """The file that counts the steps of several processes goes with a seal, an hour after nobody took one."""
    with store.record(task="t") as run, run.step():
        pass
    for old in (False, True):
        with store.append(run.id).step():
            pass
        (count,) = (store.root / "journal").glob("*.steps")
        hours = 3700 if old else 3400
        os.utime(count, (time.time() - hours,) * 2)
        store.seal()
        assert count.exists() is not old


def test_what_is_written_while_a_seal_runs_counts_once(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that was listed while its trajectory was being sealed still counts after the seal, and once."""
    ids = fill(store, 2)
    other = odograph.open(store.root)

    def late(stage: str) -> None:
        if stage == "rows":
            other.append(ids[0]).reward(7.0, name="late")
            assert next(other.summaries()).reward == 7.0

    monkeypatch.setattr(committing, "stage", late)
    store.seal()
    before = seen(other)
    assert before["summaries"][0].reward == 7.0
    assert before["used"][ids[0]][1] == {"final": 0.0, "late": 7.0}
    other.close()
    assert seen(cold(store)) == before


def test_what_is_written_while_a_seal_looks_for_earlier_parts_counts_once(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal that takes more of a sealed trajectory reads the journal twice: both times as far, whatever is written in between."""
    (id,) = fill(store, 1, steps=1)
    store.seal()
    other = odograph.open(store.root)
    other.append(id).reward(1.0, name="late")
    real = lake_module.Lake.newest

    def later(lake: lake_module.Lake, ids: set[str]) -> Any:
        other.append(id).reward(1.0, name="later")
        return real(lake, ids)

    with monkeypatch.context() as patch:
        patch.setattr(lake_module.Lake, "newest", later)
        assert store.seal().lines == 1
    (told,) = [row["reward"] for row in sealed_rows(store, "trajectories") if row["revision"] == 2]
    assert told == 1.0
    other.close()
    assert next(cold(store).summaries()).reward == 2.0


def test_what_a_search_found_while_a_seal_ran_is_found_after_it(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a line that this seal does not take stays in the full-text index, and the text of sealed lines leaves the index."""
    fill(store, 1)
    other = odograph.open(store.root)
    other.search("needle0")

    def late(stage: str) -> None:
        if stage == "rows":
            other.record(task="unheard").finish()
            assert [h.kind for h in other.search("unheard")] == ["start"]

    monkeypatch.setattr(committing, "stage", late)
    store.seal()
    found = len(other.search("needle0"))
    assert [h.kind for h in other.search("unheard")] == ["start"]
    monkeypatch.undo()
    store.seal()
    with odograph.open(store.root) as third:  # which looks at what was sealed
        assert len(third.search("needle0")) == found
    with other.record(task="new") as run:  # of as many lines as the index had
        for n in range(20):
            run.step(observation=f"word {n}")
    assert [len(other.search(word)) for word in ("needle0", "unheard", "word")] == [found, 1, 20]
    other.close()


def test_a_run_that_goes_on_while_a_seal_takes_its_beginning_counts_each_step_once(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists show the steps, actions and rewards that the trajectory has, also where its lines stand together on both sides of what
    was sealed; and so do the counts that the next seal writes down."""
    other = odograph.open(store.root)
    with other.record(task="long") as run:

        def act() -> None:
            with run.step() as step:
                step.action("look", {}, "found")
                step.reward(1.0)

        act()
        assert [(s.steps, s.actions) for s in store.summaries()] == [(1, 1)]
        made = (store.root / "catalog.sqlite").stat().st_ino

        def late(stage: str) -> None:
            if stage == "rows":
                act()
                assert [(s.steps, s.actions) for s in other.summaries()] == [(2, 2)]

        monkeypatch.setattr(committing, "stage", late)
        store.seal()
        monkeypatch.undo()
        act()
        for again in (other, store, odograph.open(store.root)):
            assert [(s.steps, s.actions) for s in again.summaries()] == [(3, 3)]
        assert (store.root / "catalog.sqlite").stat().st_ino == made  # it learnt what was sealed, and was not made anew
    store.seal()
    assert [(s.steps, s.actions) for s in cold(store).summaries()] == [(3, 3)]
    assert max(sealed_rows(store, "trajectories"), key=lambda row: row["revision"])["uses"] == '[["action","look",3]]'


def test_a_correction_that_was_sealed_before_a_list_saw_it_counts_alone(store: odograph.Store) -> None:
    """What a list saw of the journal goes when the sealed tier says more."""
    with store.record(task="t") as run:
        run.reward(0.0, name="a")
    first = store.trajectory(run.id).to_dict()
    assert next(store.summaries()).reward == 0.0
    store.add({**first, "rewards": [{**first["rewards"][0], "name": "b", "value": 1.0}]})
    store.seal()
    for again in warm_and_cold(store):
        assert again.used([run.id])[run.id].components == {"b": 1.0}
        assert next(again.summaries()).reward == again.trajectory(run.id).reward == 1.0
    rewards = [(row["name"], row["replaced"]) for row in sealed_rows(store, "facts") if row["kind"] == "reward"]
    assert rewards == [("a", True), ("b", False)]


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_compaction_that_is_killed_changes_nothing(store: odograph.Store, stage: str) -> None:
    """Whenever a compaction is killed, the store reads the same, and the next one does the work."""
    for _ in range(2):
        fill(store, 2)
        store.seal()
    before = seen(store)
    killed(store, stage, "compact(0)")
    assert seen(cold(store)) == before
    store.compact(grace=0)
    assert seen(cold(store)) == before
    assert store.backend.reader.lake.commits.orphans() == []
    assert len(list((store.root / "lake" / "records").glob("*.parquet"))) == 1


@pytest.mark.parametrize("stage", ["records", "facts", "trajectories"])
def test_a_list_that_is_lost_after_a_killed_compaction_is_made_anew(store: odograph.Store, stage: str) -> None:
    """Files that a merge was to take out, and was killed before, are in the list that a repair makes, and stay."""
    for _ in range(2):
        fill(store, 1, steps=1)
        store.seal()
    before = seen(store)
    store.close()
    killed(store, stage, "compact(0)")
    for path in (store.root / "lake").glob("commits.sqlite*"):
        path.unlink()
    with odograph.open(store.root) as other:
        assert other.repair()["left"] == {"records": 1, "facts": 2, "trajectories": 0}[stage]
        other.seal()
    assert seen(cold(store)) == before


def test_what_a_killed_compaction_did_not_delete_goes_later(store: odograph.Store, tmp_path: Path) -> None:
    """A compaction that is killed while it deletes leaves files that are merged, and whose journals are gone: the next seal deletes
    them, and the list stays as it is."""
    for _ in range(2):
        fill(store, 1, steps=1)
        store.seal()
    before = seen(store)
    shutil.copytree(store.root / "lake", tmp_path / "lake", ignore=shutil.ignore_patterns("commits.sqlite*"))
    assert store.compact(grace=0).deleted == 6
    shutil.copytree(tmp_path / "lake", store.root / "lake", dirs_exist_ok=True)
    with odograph.open(store.root) as other:
        assert len(other.examine()["sealed"]["orphans"]) == 6
        other.seal()
        sealed = other.examine()["sealed"]
        assert (sealed["files"], sealed["commits"], sealed["orphans"]) == (3, 3, [])
    assert seen(cold(store)) == before


def test_two_sealers_and_a_reader_at_once(store: odograph.Store) -> None:
    """While processes record and two of them seal, every look at the store shows each finished trajectory once and whole."""
    code = f"""
        import odograph, sys
        store = odograph.open({str(store.root)!r})
        for i in range(15):
            with store.record(task=i) as run:
                with run.step(observation="o") as step:
                    step.llm_call(model="m", messages=[{{"role": "user", "content": "q" * 400}}], response="a")
            if sys.argv[1] == "seal" and i % 5 == 4:
                store.seal()
    """
    what = ["seal", "seal", "write"]
    running = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), one]) for one in what]
    most = 0
    while any(p.poll() is None for p in running):
        if not (store.root / "journal").is_dir():
            continue
        found = list(store.trajectories(status="completed"))
        assert len({t.id for t in found}) == len(found) >= most
        assert all(t.steps[0].llm_calls[0].request["messages"][0]["content"] == "q" * 400 for t in found)
        most = len(found)
    assert [p.returncode for p in running] == [0, 0, 0]
    before = seen(store)
    assert len(before["trajectories"]) == 45
    store.seal()
    assert seen(store) == before
    assert seen(cold(store)) == before


@pytest.mark.parametrize("recovered", [False, True])
def test_a_list_without_its_wal_lists_what_was_sealed(store: odograph.Store, recovered: bool) -> None:
    """A process that dies leaves files of SQLite beside `commits.sqlite`. Whoever copies the list alone, or deletes what is beside the
    list, loses nothing of what was sealed and whose journal is gone, also where a seal commits what a killed seal left."""
    fill(store, 2)
    store.seal()
    fill(store, 2)
    store.close()
    before = seen(store)
    store.close()
    if recovered:
        killed(store, "trajectories")
    killed(store, "none", "seal(), os.kill(os.getpid(), signal.SIGKILL)")
    assert journals(store) == []
    beside = store.root / "lake" / "commits.sqlite-wal"
    assert beside.exists()
    beside.unlink()
    assert seen(cold(store)) == before


def test_a_lost_list_of_files_is_made_anew(store: odograph.Store) -> None:
    """Where `commits.sqlite` is lost or damaged, reading says what to do, and `repair` rebuilds it from the files."""
    ids = fill(store)
    store.seal()
    store.append(ids[0]).reward(2.0)
    store.seal()
    before = seen(store)
    for what in ("gone", "damaged"):
        store.close()
        for path in (store.root / "lake").glob("commits.sqlite*"):
            path.unlink() if what == "gone" else path.write_bytes(b"no database" * 500)
        with pytest.raises(odograph.StoreError, match="doctor --repair"):
            list(cold(store).summaries())
        found = odograph.open(store.root).repair()
        assert (found["commits"], found["left"]) == (2, 0)
        assert seen(cold(store)) == before


def test_a_small_journal_is_sealed_in_no_more_than_zlib_takes(store: odograph.Store) -> None:
    """What describes the files of a small seal takes less than what they hold, and their columns are documented all the same."""
    import pyarrow.parquet as parquet

    chance = random.Random(5)
    known = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(3000)]
    for _ in range(4):
        with store.record(task=" ".join(chance.choices(known, k=20)), agent="a", model="m", group="g") as run:
            history = [{"role": "system", "content": " ".join(chance.choices(known, k=150))}]
            for _ in range(15):
                history.append({"role": "user", "content": " ".join(chance.choices(known, k=300))})
                with run.step() as step:
                    step.context("kb", {"text": " ".join(chance.choices(known, k=300))})
                    call = step.llm_call(model="m", messages=history[-2:], response=" ".join(chance.choices(known, k=150)))
                    step.action("search", {"q": 1}, " ".join(chance.choices(known, k=150)), ok=True, llm_call=call)
            run.reward(chance.random())
    store.close()
    journal = b"".join(path.read_bytes() for path in (store.root / "journal").glob("*.jsonl"))
    assert len(journal) < 500_000
    assert store.seal().sealed_bytes <= 1.05 * len(zlib.compress(journal, 6))
    for table in layout.TABLES:
        (path,) = (store.root / "lake" / table).glob("*.parquet")
        assert all(field.metadata[b"doc"] for field in parquet.read_schema(path))


CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(CONTENT, CONTENT, st.lists(st.floats() | st.none(), max_size=4)), min_size=1, max_size=3))
def test_any_content_is_sealed_as_it_is(tmp_path: Path, what: list[tuple[Any, Any, list[Any]]]) -> None:
    """Whatever agents wrote comes out of the sealed tier as it came out of the journal."""
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    with odograph.open(tmp_path / "s") as store:
        for one, other, logprobs in what:
            with store.record(task=one, metadata={"m": other}) as run:
                with run.step(observation=other) as step:
                    step.llm_call(
                        model="m",
                        messages=[{"role": "user", "content": one}],
                        response=other,
                        logprobs=logprobs,
                        token_ids=list(range(len(logprobs))),
                    )
                    step.action("a", one, other)
                run.note(one)
        before = [repr(t.to_dict()) for t in store.trajectories()], repr(list(store.summaries()))
        store.seal()
        assert ([repr(t.to_dict()) for t in store.trajectories()], repr(list(store.summaries()))) == before
        assert ([repr(t.to_dict()) for t in cold(store).trajectories()], repr(list(store.summaries()))) == before


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
def test_sessions_of_other_tools_are_sealed_as_they_are(store: odograph.Store) -> None:
    """Imported sessions of every format read the same before and after sealing."""
    store.import_sessions(SAMPLES)
    before = seen(store)
    assert before["trajectories"]
    store.seal()
    assert journals(store) == []
    assert seen(store) == before
    assert seen(cold(store)) == before


def test_a_sealer_that_goes_on_opens_no_earlier_file_again(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that seals again and again reads as many files each time, however many it has sealed, and of a file no row group that
    can't hold a trajectory of the seal. A late reward is still merged into what was sealed before."""
    opened: list[str] = []
    real = lake_module.Lake.open
    monkeypatch.setattr(lake_module.Lake, "open", lambda lake, path, *a, **k: (opened.append(path), real(lake, path, *a, **k))[1])
    looked: list[str] = []
    wrong = FolderCommits.wrong
    monkeypatch.setattr(FolderCommits, "wrong", lambda commits, keys: (looked.append(keys), wrong(commits, keys))[1])
    counts, first = [], fill(store, 1)[0]
    for _ in range(8):
        opened.clear()
        store.seal()
        counts.append(len(opened))
        fill(store, 1)
    assert counts[3] == counts[7]
    assert len(looked) == 1  # which reads all commits
    store.append(first).reward(7.0)
    store.seal()
    assert store.trajectory(first).rewards[-1].value == 7.0
    assert store.sql("select reward from trajectories where id = ?", [first]).list() == [{"reward": 7.0}]
    for name in ("_SOME", "_SUMMARY_ROWS"):
        monkeypatch.setattr(committing, name, 1)
    ids = fill(store, 4)
    store.seal()
    store.append(ids[1]).reward(8.0)
    read: list[Any] = []
    whole = files.Opened.read
    monkeypatch.setattr(files.Opened, "read", lambda file, *a, **k: (read.append(a), whole(file, *a, **k))[1])
    store.seal()
    assert len([names for names, _ in filter(None, read) if names == ["id"]]) == 1


def test_a_seal_of_many_late_rewards_holds_few_summaries(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many trajectories a late reward comes to, a commit is of a bounded number of them, and no line is sealed twice."""
    ids = fill(store, 10, steps=1)
    store.seal()
    for id in ids:
        store.append(id).reward(0.5, name="late")
    with odograph.open(store.root) as other:  # its journal comes into the same commit
        fill(other, 3, steps=1)
    before = seen(store)
    monkeypatch.setattr(sealing, "_TOGETHER", 4)
    done: list[tuple[int, int]] = []
    made = store.seal(progress=lambda *of: done.append(of))
    assert (made.trajectories, made.commits) == (13, 4)
    assert done[-1][0] == done[-1][1] and done == sorted(done)
    lake = store.backend.reader.lake
    assert [max(one.file.rows for one in lake.commits.files("trajectories")[1:]), journals(store)] == [4, []]
    assert seen(store) == before == seen(cold(store))
    assert store.sql("select count(*) as n from records where kind = 'reward'").list() == [{"n": 23}]


def test_compacting_holds_the_summaries_of_few_files(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of other times are not open at once, however many there are, nor for who reads them; trajectories that were sealed twice
    come together."""
    monkeypatch.setattr(lake_module, "_FILES", 2)
    ids = []
    for n in range(8):
        ids += fill(store, 2, steps=1)
        if n % 3 == 2:
            store.append(ids[-1]).reward(0.5, name="late")
        store.seal()
    store.append(ids[3]).reward(0.5, name="late")
    store.seal()
    before = seen(store)
    assert len(store.backend.reader.lake._opened) == 2
    begun, ended, most = 0, 0, 0
    rows_of = compacting._sorted

    def counted(*of: Any) -> Iterator[dict[str, Any]]:
        nonlocal begun, ended, most
        begun += 1
        most = max(most, begun - ended)
        yield from rows_of(*of)
        ended += 1

    monkeypatch.setattr(compacting, "_sorted", counted)
    assert store.compact(grace=0).merged == 27
    assert begun == 9 and most <= 3
    assert seen(store) == before == seen(cold(store))
    assert store.sql("select count(*) as n from trajectories").list() == [{"n": 16}]


def test_reading_all_keeps_few_row_groups(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader of all trajectories keeps of the sealed files has a bound in bytes, however many row groups there are. It is what
    was read last."""
    monkeypatch.setattr(committing, "_GROUP", 64)  # a row group each, or two
    ids = fill(store, count=8)
    store.close()
    store.seal()
    lake = store.backend.reader.lake
    whole = [t.id for t in store.trajectories()]
    size = sum(rows.nbytes for rows in lake._groups.values())
    assert whole == ids and len(lake._groups) > 3
    store.close()
    monkeypatch.setattr(lake_module, "_KEPT", size // 3)
    most = 0
    for _ in store.trajectories():
        kept = [rows.nbytes for rows in lake._groups.values()]
        most = max(most, len(kept))
        assert sum(kept[:-1]) <= size // 3
    assert most > 1
    monkeypatch.setattr(files.Opened, "read", lambda file, *_, **__: pytest.fail(f"{file.path} was read"))
    assert store.trajectory(ids[-1]).id == ids[-1]


@pytest.mark.parametrize("what", ["rows", "bytes"])
def test_a_seal_of_many_row_groups_reads_as_before(store: odograph.Store, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Row groups have as many rows, or bytes, as is chosen and no more, in each table; a trajectory may fill several, and all is there.
    In memory are as many rows of facts and of summaries as is chosen; the others are columns by then."""
    import pyarrow.parquet as parquet

    columns, held = committing._columns, set[tuple[str, int]]()

    def counted(table: Table, rows: list[dict[str, Any]]) -> Any:
        held.add((table.name, len(rows)))
        return columns(table, rows)

    monkeypatch.setattr(committing, "_columns", counted)
    fill(store, 5, steps=2)
    before = seen(store)
    small = {"_SOME": 2, "_ROWS": 3, "_FACT_ROWS": 4, "_SUMMARY_ROWS": 4} if what == "rows" else {"_GROUP": 1}
    for name, value in small.items():
        monkeypatch.setattr(committing, name, value)
    rows = 0
    for merged in (False, True):
        if merged:
            store.append(before["summaries"][0].id).label("l", "v")  # which changes no figure
            before = seen(store)
        told = store.sql("select kind, count(*) from facts group by 1 order by 1").list()
        store.seal()
        if merged:
            assert store.compact(grace=0).merged == 6
        assert store.sql("select kind, count(*) from facts group by 1 order by 1").list() == told
        assert seen(store) == before
        assert seen(cold(store)) == before
        groups = {}
        for table in layout.TABLES:
            (path,) = (store.root / "lake" / table).glob("*.parquet")
            about = parquet.read_metadata(path)
            groups[table] = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
        assert rows < sum(groups["records"])
        rows = sum(groups["records"])
        if what == "bytes":
            assert groups["records"] == [1] * rows and len(groups["facts"]) == 1
            continue
        assert max(most for name, most in held if name != "records") == 2
        assert max(groups["records"]) == 3 and len(groups["records"]) <= rows / 3 + 5
        facts = sum(groups["facts"])
        assert groups["facts"] == [4] * (facts // 4) + ([facts % 4] if facts % 4 else [])
        assert groups["trajectories"] == [4, 1]


@pytest.mark.parametrize("what", ["texts", "ids", "logprobs"])
def test_row_groups_of_a_long_file_are_as_large_as_the_first_ones(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """How many rows a row group gets is told by how well the one before compressed: late ones are no smaller, and none is far larger,
    whatever the rows hold."""
    import pyarrow.parquet as parquet

    monkeypatch.setattr(committing, "_GROUP", 1 << 15)
    chance = random.Random(0)
    with store.record(task="long") as run:
        for _ in range(100):
            if what == "texts":
                run.note(chance.randbytes(8000).hex() * 2)  # a quarter of it is left
            elif what == "ids":
                run.llm_call(model="m", messages=[], token_ids=[chance.randrange(1 << 17) for _ in range(8000)])
            else:
                run.llm_call(model="m", messages=[], logprobs=[-chance.randrange(1 << 17) / 1024 for _ in range(8000)])
    store.close()
    store.seal()
    (path,) = (store.root / "lake" / "records").glob("*.parquet")
    about = parquet.read_metadata(path)
    rows = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
    assert 10 < len(rows) < 40 and max(rows[1:-1]) <= 2 * min(rows[1:-1])


def test_compacting_refuses_summaries_in_no_order(store: odograph.Store) -> None:
    """A file of somebody who wrote it otherwise is named and stays as it was."""
    fill(store, 3, steps=1)
    store.seal()
    fill(store, 3, steps=1)
    store.seal()
    lake = store.backend.reader.lake
    path = lake.root / lake.files("trajectories")[0]
    backwards = files.Writer(lake.root, lake.files("trajectories")[0], layout.TRAJECTORIES, files.footer_of(path))
    backwards.write(files.Opened(path, layout.TRAJECTORIES).read().sort_by([("id", "descending")]))
    made = backwards.close()
    about = json.dumps({"rows": made.groups, "crc": made.crc})
    with closing(sqlite3.connect(lake.root / "commits.sqlite")) as db, db:
        db.execute("update files set bytes=?, groups=? where path=?", (made.bytes, about, made.path))
    before = seen(store)
    with pytest.raises(odograph.StoreError, match="can't be merged: its rows are not in the order of ids"):
        store.compact(grace=0)
    assert seen(store) == before
    assert lake.commits.orphans() == []


def test_a_reader_that_a_compaction_overtakes_reads_whole_trajectories(
    store: odograph.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a grace time, a compaction deletes files that a reader was about to read: the reader finds where the rows are now."""
    ids = []
    for _ in range(2):
        with store.record(task="t") as run:
            run.reward(1.0)
        ids.append(run.id)
        store.seal()
    before = [store.trajectory(id).to_dict() for id in ids]
    with odograph.open(store.root) as other:
        assert other.count() == 2
        assert store.compact(grace=0).deleted
        assert [t.to_dict() for t in other.backend.reader.read(ids)] == before
    assert not caplog.records


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_follow_ends_by_a_signal(tmp_path: Path, signum: int) -> None:
    """Ctrl-C and SIGTERM end `seal --follow` between two seals, whichever thread the kernel gives the signal to: status 0."""
    with odograph.open(tmp_path / "s") as store, store.record(task="t") as run:
        run.finish("4")
    command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "seal", "--follow", "--every", "1000"]
    heard = partial(signal.signal, signum, signal.SIG_DFL)  # a shell that runs the tests in the background ignores SIGINT
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("sealed")
    process.stdout.readline()
    if len(os.listdir(f"/proc/{process.pid}/task")) > 1:
        to_a_thread(process.pid, signum)
    else:
        process.send_signal(signum)
    assert process.communicate() == ("", "") and process.returncode == 0
