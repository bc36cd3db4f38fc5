"""A store is the same store for whoever opens it: its redaction and its durability belong to the store, not to one opening."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.capture.faults import fault
from odograph.cli import main
from odograph.runtime import TaskResponse
from odograph.store import backend, memory, rows
from odograph.store.opening import is_there
from tests.waiting import until

SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


def loud(text: str) -> str:
    """A function of `redact=` that other processes can import."""
    return text.replace("quiet", "LOUD")


def hushed(text: str) -> str:
    return text.replace("quiet", "hushed")


def python(code: str, *args: str, cwd: Path | None = None, **environment: str) -> str:
    """What another process prints."""
    path = os.pathsep.join([str(Path(__file__).parent.parent.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def holds(folder: Path, text: str) -> list[str]:
    """The files of a folder that hold a text."""
    return [str(p) for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.fixture(params=[True, [r"Project [A-Z]\w+"], loud], ids=["rules", "patterns", "function"])
def redacted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[odograph.Store, str]]:
    """A store that takes something out, and what it takes out."""
    text = {True: SECRET, loud: "quiet"}.get(request.param if not isinstance(request.param, list) else None, "Project Manhattan")
    with odograph.open(tmp_path / "s", redact=request.param) as store:
        store.record(task="t", group="g").finish()
        yield store, text


def test_another_process_redacts_without_being_told(redacted: tuple[odograph.Store, str]) -> None:
    """Opening the folder is enough: to record, to add, to append."""
    store, text = redacted
    id = next(store.summaries()).id
    python(
        """
        import sys, odograph
        with odograph.open(sys.argv[1]) as store:
            store.record(task=sys.argv[3]).finish(sys.argv[3])
            store.add({"task": sys.argv[3], "steps": [{"observation": sys.argv[3]}]})
            store.append(sys.argv[2]).reward(1.0, rationale=sys.argv[3])
        """,
        str(store.root),
        id,
        text,
    )
    assert len(store) == 3
    assert store.trajectory(id).reward == 1.0
    assert holds(store.root, text) == []


def test_a_function_of_the_script_itself_redacts_in_other_processes(tmp_path: Path) -> None:
    """`redact=` may be a function of the program that is run, `python mine.py`: others load it from its file, and don't run the program."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import sys, odograph\n"
        "def loud(text):\n    return text.replace('quiet', 'LOUD')\n"
        "if __name__ == '__main__':\n"
        "    odograph.open(sys.argv[1], redact=loud).record(task='quiet').finish()\n"
    )
    where = str(tmp_path / "s")
    subprocess.run([sys.executable, str(script), where], check=True)
    python("import sys, odograph; odograph.open(sys.argv[1]).record(task='quiet').finish()", where)
    with odograph.open(where) as store:
        assert [s.task for s in store.summaries()] == ["LOUD", "LOUD"]


def test_a_pickled_response_redacts(redacted: tuple[odograph.Store, str]) -> None:
    """A response that travels to another process writes its rewards to the same store."""
    store, text = redacted
    response = TaskResponse(store, "task", next(store.summaries()).id, "completed")
    sent = store.root.parent / "sent"
    sent.write_bytes(pickle.dumps(response))
    python(
        "import pickle, sys; r = pickle.load(open(sys.argv[1], 'rb')); r.reward(1.0, rationale=sys.argv[2]); r.store.close()",
        str(sent),
        text,
    )
    t = store.trajectory(next(store.summaries()).id)
    assert t.reward == 1.0
    assert t.rewards[0].rationale not in (None, text)
    assert holds(store.root, text) == []


def test_a_pickled_response_of_a_store_in_which_nothing_is_yet(tmp_path: Path) -> None:
    """What reopens a store says how it redacts, before anything stands on disk."""
    store = odograph.open(tmp_path / "s", redact=True, durability="sync")
    place = pickle.loads(pickle.dumps(store.backend.place))
    with odograph.open(place) as other:
        other.record(task=SECRET).finish()
        assert other.backend.journal.durability == "sync"
    assert holds(tmp_path, SECRET) == []
    assert len(store) == 1


def test_the_first_opening_settles_the_redaction(tmp_path: Path) -> None:
    """Who opens a store with `redact=` and records nothing yet has settled it: another process that records meanwhile redacts, too."""
    with odograph.open(tmp_path / "s", redact=True, durability="sync"):
        code = "import sys, odograph; odograph.open(sys.argv[1]).record(task=sys.argv[2]).finish()"
        python(code, str(tmp_path / "s"), SECRET)
    assert holds(tmp_path, SECRET) == []
    with odograph.open(tmp_path / "s") as store:
        assert len(store) == 1
        assert store.backend.settings.durability == "sync"


def test_a_redaction_that_could_not_be_written_down_at_the_opening(tmp_path: Path) -> None:
    """It is written down before the first record: another process that records then redacts, too."""
    (tmp_path / "s").touch()
    store = odograph.open(tmp_path / "s" / "store", redact=True)
    (tmp_path / "s").unlink()
    store.record(task=SECRET).finish()
    assert json.loads((store.root / "store.json").read_bytes()) == {"redact": True}
    store.record(task=SECRET).finish()
    assert holds(tmp_path, SECRET) == []


def test_a_function_that_another_process_settled_first_stands(tmp_path: Path) -> None:
    """Who could not write down a function of its own at the opening takes over that of the store."""
    (tmp_path / "s").touch()
    store = odograph.open(tmp_path / "s" / "store", redact=loud)
    (tmp_path / "s").unlink()
    with odograph.open(tmp_path / "s" / "store", redact=hushed):
        pass
    store.backend.journal.append(b"")  # the file is begun, with the settings of the store
    assert store.trajectory(store.record(task="quiet").id).task == "hushed"


def test_a_run_that_is_open_is_redacted_once_another_process_says_how(tmp_path: Path) -> None:
    """With the next look at the file, which each group commit takes, also where nothing asks the store for another run."""
    with odograph.open(tmp_path / "s") as store, store.record(task="t") as run:
        run.note(SECRET)
        with odograph.open(tmp_path / "s", redact=True):
            pass
        store.backend.journal.check()
        run.note(SECRET)
        assert [note.data == SECRET for note in store.trajectory(run.id).notes] == [True, False]


def test_a_pickled_store_is_the_same_store(redacted: tuple[odograph.Store, str]) -> None:
    """A store can be sent to another process, as the argument of a worker, say: there it redacts as here. A copy is the same store."""
    store, text = redacted
    sent = store.root.parent / "sent"
    sent.write_bytes(pickle.dumps(store))
    code = (
        "import pickle, sys; store = pickle.load(open(sys.argv[1], 'rb')); store.record(task=sys.argv[2]).finish(); store.close()"
    )
    python(code, str(sent), text)
    copy.deepcopy(store).record(task=text).finish()
    assert len(store) == 3
    assert holds(store.root, text) == []


def test_the_command_line_redacts(tmp_path: Path) -> None:
    """`odograph import` and `odograph score` write to a store as it redacts."""
    with odograph.open(tmp_path / "s", redact=True) as store:
        store.record(task="t").finish()
    session = tmp_path / "chat.jsonl"
    session.write_text(
        json.dumps({"messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "ok"}]}) + "\n"
    )
    (tmp_path / "mine.py").write_text(f"def f(t):\n    return {{'{SECRET}': 1.0}}\n")
    for command in (["import", str(session)], ["score", f"{tmp_path / 'mine.py'}:f"]):
        done = subprocess.run(
            [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert holds(tmp_path / "s", SECRET) == []
    with odograph.open(tmp_path / "s") as store:
        assert [t.reward for t in store.trajectories()] == [1.0, 1.0]


@pytest.mark.slow
def test_a_batch_on_ray_redacts(tmp_path: Path) -> None:
    """What Ray's actors record stands in the store as it redacts."""
    pytest.importorskip("ray")
    python(
        """
        import asyncio, sys, odograph
        from odograph import Runners, Task, FunctionAgent
        async def agent(question):
            odograph.log_context("kb", sys.argv[2] if len(sys.argv) > 2 else question, purpose="why")
            return question
        async def main():
            with odograph.open(sys.argv[1], redact=True) as store:
                tasks = [Task(input=sys.argv[2], agent=FunctionAgent(agent)) for _ in range(2)]
                found = await Runners.run_task(tasks, store=store, runner="ray")
                assert all(r.status == "completed" for r in found.values()), found
                assert len(store) == 2
        asyncio.run(main())
        """,
        str(tmp_path / "s"),
        SECRET,
    )
    assert holds(tmp_path / "s", SECRET) == []


def test_another_redaction_is_refused_and_none_uses_what_is_there(tmp_path: Path) -> None:
    """What the first opening said stands; False says that there is none; a store without any can get one, from then on."""
    with odograph.open(tmp_path / "s", redact=[r"blue", re.compile("green", re.IGNORECASE)]) as store:
        store.record(task="t").finish()
    for other, said in ((True, "True"), (False, "False"), (["blue"], "1 pattern"), (loud, r"'.*\bloud'")):
        with pytest.raises(odograph.InvalidInput, match=f"has redact=2 patterns, not {said}; leave redact= out to use it"):
            odograph.open(tmp_path / "s", redact=other)
    with odograph.open(tmp_path / "s", redact=[r"blue", re.compile("green", re.IGNORECASE)]) as store:
        assert store.trajectory(store.record(task="x").id).task == "x"
    with odograph.open(tmp_path / "s") as store:
        assert store.trajectory(store.record(task="Blue blue GREEN").id).task == "Blue [redacted:pattern] [redacted:pattern]"
    with odograph.open(tmp_path / "late", redact=False) as store:
        assert store.trajectory(store.record(task="blue").id).task == "blue"
        with odograph.open(tmp_path / "late", redact=["blue"]) as second:
            second.record(task="blue").finish()
        # the first process notices what the second said
        until(lambda: store.trajectory(store.record(task="blue").id).task == "[redacted:pattern]")
    with odograph.open(tmp_path / "d", durability="sync") as store:
        store.record(task="t").finish()
    with pytest.raises(odograph.InvalidInput, match="durability='sync', not 'group'"):
        odograph.open(tmp_path / "d", durability="group")
    with odograph.open(tmp_path / "d") as store:
        store.record(task="t").finish()
        assert store.backend.journal.durability == "sync"


def test_where_this_machine_keeps_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a server, or is not sealed into shared tables yet, is in a folder of the user's state, one for each store."""
    served = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:1"]
    tables = [f"file://{tmp_path}/{name}" for name in ("a", "b", "a")]
    places = {"ODOGRAPH_LOCAL": tmp_path / "l", "XDG_STATE_HOME": tmp_path / "x", "HOME": tmp_path / "h"}
    for name, place in places.items():
        monkeypatch.setenv(name, str(place))
    for name, place in places.items():
        root = place / ".local" / "state" if name == "HOME" else place
        for stores in ([odograph.open(one) for one in served], [odograph.open(one, catalog="c") for one in tables]):
            one, other, again = (Path(store.backend.place.folder) for store in stores)
            assert one == again != other
            assert one.is_relative_to(root / "odograph") and other.is_relative_to(root / "odograph")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("where", "more", "said"),
    [
        ("", {}, "an empty text names no store"),
        ("http://127.0.0.1:1", {"catalog": "c"}, "catalog= is not for a served store: its server has this setting"),
        ("http://127.0.0.1:1", {"seal_at": 5}, "seal_at= is not for a served store"),
        ("{}/s", {"token": "t"}, "token= is for a served store"),
        ("{}/s", {"local": "x"}, "local= for one that is served, too; .* is a folder"),
        ("{}/s", {"durability": "never"}, "durability is 'group' or 'sync', not 'never'"),
    ],
)
def test_what_a_kind_of_store_does_not_have_is_refused(tmp_path: Path, where: str, more: dict[str, Any], said: str) -> None:
    """A setting that is for another kind of store is refused in a sentence, and nothing is made."""
    with pytest.raises(odograph.InvalidInput, match=said):
        odograph.open(where.format(tmp_path), **more)
    assert list(tmp_path.iterdir()) == []


def test_the_store_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name the store is that of $ODOGRAPH_STORE, else ./odograph; whether one is there tells of a folder alone."""
    monkeypatch.chdir(tmp_path)
    for name, place in (("s", "s"), ("", "odograph")):
        monkeypatch.setenv("ODOGRAPH_STORE", name)
        assert not is_there(None) and not is_there(tmp_path / place) and not is_there(place)
        with odograph.open() as store:
            store.record(task="t").finish()
        assert is_there(None) and is_there(tmp_path / place) and is_there(place)
    assert is_there("http://127.0.0.1:1")


def test_a_size_to_seal_at_is_checked(tmp_path: Path) -> None:
    """`seal_at=` is a number of bytes; 0 is a setting, too."""
    for wrong in (-1, True, "5", 1.5):
        with pytest.raises(odograph.InvalidInput, match="seal_at is a number of bytes, or 0 for never, not "):
            odograph.open(tmp_path / "s", seal_at=wrong)  # type: ignore[arg-type]
    with odograph.open(tmp_path / "s", seal_at=0) as store:
        store.record(task="t").finish()
    with odograph.open(tmp_path / "s") as store:
        assert store.backend.settings.seal_at == 0


def test_patterns_match_texts(tmp_path: Path) -> None:
    """A pattern of bytes is refused, as it would match nothing; a list without patterns redacts by the built-in rules."""
    with pytest.raises(odograph.InvalidInput, match="matches bytes; a pattern that matches text was expected"):
        odograph.open(tmp_path / "bytes", redact=[re.compile(b"x")])  # type: ignore[list-item]
    with odograph.open(tmp_path / "s", redact=[]) as store:
        assert SECRET not in store.trajectory(store.record(task=SECRET).id).task
    with odograph.open(tmp_path / "s") as store:
        assert SECRET not in store.trajectory(store.record(task=SECRET).id).task


def test_what_is_added_is_redacted_once(tmp_path: Path) -> None:
    """A function that changes what it returned before, too, changes each text once, also of a trajectory that was made elsewhere."""
    module = tmp_path / "mine.py"
    module.write_text("def louder(text):\n    return text.replace('quiet', 'quiet!')\n")
    with odograph.open(tmp_path / "s", redact=f"{module}:louder") as store:
        assert store.trajectory(store.add({"task": "quiet"})).task == "quiet!"


def test_a_function_must_be_importable(tmp_path: Path) -> None:
    """A lambda is refused in a sentence; a name is as good as the function; who can't load it may read and not write."""
    with pytest.raises(odograph.InvalidInput, match=r"redact='.*<lambda>' can't be imported by other processes"):
        odograph.open(tmp_path / "s", redact=lambda text: text)
    with pytest.raises(odograph.InvalidInput, match="can't be imported by other processes"):
        odograph.open(tmp_path / "s", redact=functools.partial(loud))
    with odograph.open(tmp_path / "named", redact=loud) as store:
        assert store.backend.settings.redact == f"{__name__}:loud"  # a module may move with its environment
    of_no_file = """
        import odograph, sys
        def hide(text):
            return text
        try:
            odograph.open(sys.argv[1], redact=hide)
        except odograph.InvalidInput as error:
            print(error)
    """
    assert "redact='hide' can't be imported" in python(of_no_file, str(tmp_path / "s"))
    module = tmp_path / "mine.py"
    module.write_text("SIZE = 3\ndef hide(text):\n    return text.replace('quiet', '-')\n")
    with pytest.raises(odograph.StoreError, match=r"mine.py:SIZE' is no function"):
        odograph.open(tmp_path / "none", redact=f"{module}:SIZE").record(task="x")
    with odograph.open(tmp_path / "s", redact=f"{module}:hide") as store:
        assert store.trajectory(store.record(task="be quiet").id).task == "be -"
    with odograph.open(tmp_path / "s") as store:
        assert store.trajectory(store.record(task="be quiet").id).task == "be -"
    module.unlink()
    with odograph.open(tmp_path / "s") as store:
        assert [t.task for t in store.trajectories()] == ["be -", "be -"]
        id = next(store.summaries()).id
        for write in (
            lambda: store.record(task="x"),
            lambda: store.append(id),
            lambda: store.add({"task": "x"}),
            lambda: store.score(odograph.reward_function("f", lambda t: 1.0)),
            lambda: store.import_sessions(tmp_path),
        ):
            with pytest.raises(odograph.StoreError, match=r"can't be written from here: .*can't be loaded: no file"):
                write()
    about = tmp_path / "s" / "store.json"
    about.write_text("{rubbish")
    for make in (lambda: None, lambda: os.mkfifo(about)):  # nobody writes to the pipe
        make()
        with odograph.open(tmp_path / "s") as store:
            assert len(store) == 2
            for ask in (lambda: store.record(task="x"), store.backend.redaction):
                with pytest.raises(odograph.StoreError, match=r"store.json', which holds the store's redaction, can't be read"):
                    ask()
        about.unlink()


def test_a_fault_does_not_tell_what_is_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `health()` nor the warning repeats the text of an error, which may hold what is taken out."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")

    with warnings.catch_warnings(record=True) as said, odograph.open(tmp_path, redact=True) as store:
        warnings.simplefilter("always")
        before = store.health()["faults"]
        with store.record(task="t"):
            fault(ValueError(SECRET))
        assert store.health()["faults"] > before
        assert SECRET not in str(store.health())
    assert SECRET not in str([str(w.message) for w in said])
    assert holds(tmp_path, SECRET) == []


@pytest.mark.parametrize("durability", ["group", "sync"])
def test_a_deleted_or_exchanged_folder_is_noticed(tmp_path: Path, durability: Any) -> None:
    """Recording goes on in a new file, with what was written since the last look; it is warned of once, and in `health()`. Where each
    record is synced, each looks."""
    where = tmp_path / "s"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        store = odograph.open(where, durability=durability)
        before = store.record(task="before")
        before.finish()
        store.flush()  # the file is looked for
        assert store.count() == 1
        where.rename(tmp_path / "moved")
        run = store.record(task="after")
        run.note("acknowledged")
        until(lambda: store.health()["files_lost"]) if durability == "group" else None
        assert holds(where, "acknowledged")
        assert store.health()["files_lost"] == 1
        run.finish()
        assert [t.task for t in odograph.open(where).trajectories()] == ["after"]
        (notes,) = [t.notes for t in store.trajectories()]
        assert notes[0].data == "acknowledged"
        store.close()
    with closing(sqlite3.connect(tmp_path / "moved" / "catalog.sqlite")) as catalog:
        assert [rows.unpacked(id) for (id,) in catalog.execute("select id from summaries")] == [before.id]
    assert len([w for w in said if "was deleted, moved or changed by another program" in str(w.message)]) == 1
    assert next(odograph.open(tmp_path / "moved").trajectories()).task == "before"


def test_a_journal_that_another_program_cut_is_noticed(tmp_path: Path) -> None:
    """A rotation of logs that copies and cuts: what comes then stands in a new file, and is warned of once."""
    with odograph.open(tmp_path / "s") as store:
        store.record(task="before").finish()
        (file,) = (tmp_path / "s" / "journal").glob("*.jsonl")
        store.backend.journal.check()  # as each sync does
        os.truncate(file, 0)
        with pytest.warns(RuntimeWarning, match="was deleted, moved or changed"):
            store.backend.journal.check()
        assert store.health()["files_lost"] == 1
        run = store.record(task="after")
        run.note("acknowledged")
    (found,) = odograph.open(tmp_path / "s").trajectories()
    assert (found.task, found.notes[0].data) == ("after", "acknowledged")


def test_a_store_of_a_relative_name_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent goes to other working folders: what is recorded and read is in the folder that the name meant at first."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with odograph.open("s") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.record(task="first").finish()
        monkeypatch.chdir("/")
        store.record(task="second").finish()
        assert sorted(t.task for t in store.trajectories()) == ["first", "second"]
    assert sorted(t.task for t in odograph.open(tmp_path / "s").trajectories()) == ["first", "second"]
    assert os.listdir(tmp_path / "elsewhere") == []


#: What another program may leave of a journal's bytes.
OVERWRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut in the header": lambda data: data[: len(data) // 50],
    "cut in a line": lambda data: data[: len(data) // 2],
    "cut in the last line": lambda data: data[:-5],
    "half a line behind": lambda data: data + b'{"kind":"note"',
    "a line behind": lambda data: data + b'{"kind":"note"}\n',
    "another, longer file": lambda data: b"x" * (2 * len(data)),
    "another file of this length": lambda data: b"y" * len(data),
    "no newline at the end": lambda data: data[:-1] + b"}",
}


@pytest.mark.parametrize("how", OVERWRITTEN)
def test_what_is_recorded_behind_what_another_program_wrote(tmp_path: Path, how: str) -> None:
    """A record that is written before the change of a file is noticed, perhaps behind half a line, stands in the next file, too: also
    where the file is longer then than it was. Recording says so once."""
    store = odograph.open(tmp_path / "s")
    for _ in range(3):
        store.record(task="before").finish()
    (file,) = (tmp_path / "s" / "journal").glob("*.jsonl")
    journal = store.backend.journal
    with journal.lock, warnings.catch_warnings(record=True) as said:  # no sync comes in between
        warnings.simplefilter("always")
        journal.check()
        file.write_bytes(OVERWRITTEN[how](file.read_bytes()))
        run = store.record(task="after")
        run.note({"kind": "note", "said": "acknowledged"})
        journal.check()
    assert [str(one.message).partition(" was ")[2][:25] for one in said] == ["deleted, moved or changed"]
    assert (store.health()["files_lost"], store.health()["waiting"]) == (1, 0)
    run.finish()
    with odograph.open(tmp_path / "s") as after:
        found = after.trajectory(run.id)
        assert (found.task, found.status, len(found.notes)) == ("after", "completed", 1)
        assert found.notes[0].data == {"kind": "note", "said": "acknowledged"}


def test_a_store_in_a_folder_whose_name_is_no_utf_8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Recording, reading and the commands work; sealing, and reading what was sealed before the folder got its name, say what is wrong.
    Nothing is taken for damaged, and under another name all of it is there."""
    odd, good = tmp_path / os.fsdecode(b"st\xff\xe9re"), tmp_path / "store"
    with odograph.open(odd) as store:
        store.record(task="first").finish()
        assert [t.task for t in store.trajectories()] == ["first"]
        with pytest.raises(
            odograph.StoreError, match="is no UTF-8, and Parquet files are written and read under names in UTF-8 alone"
        ):
            store.seal()
        assert not list(odd.rglob("*.parquet*"))
    for command in ("ls", "stats", "doctor", "validate", "tail"):
        assert main([command, "--store", str(odd)]) == (1 if command == "validate" else 0), capfd.readouterr()
    odd.rename(good)
    with odograph.open(good) as store:
        store.seal()
        store.record(task="second").finish()
    good.rename(odd)
    with odograph.open(odd) as store, pytest.raises(odograph.StoreError, match="rename the folder"):
        list(store.summaries())
    assert main(["doctor", "--store", str(odd)]) == 1
    assert main(["doctor", "--repair", "--store", str(odd)]) == 1
    assert "rename the folder" in capfd.readouterr().err
    odd.rename(good)
    with odograph.open(good) as store:
        assert sorted(t.task for t in store.trajectories()) == ["first", "second"]
        assert store.damages() == []


def test_a_folder_or_a_pipe_of_a_journals_name_is_no_journal(tmp_path: Path) -> None:
    """Neither costs a question or a seal: a pipe would be waited for without an end."""
    with odograph.open(tmp_path / "s") as store:
        store.record(task="kept").finish()
    (tmp_path / "s" / "journal" / "0folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "s" / "journal" / "0pipe.jsonl")
    assert [t.task for t in odograph.open(tmp_path / "s").trajectories()] == ["kept"]
    odograph.open(tmp_path / "s").seal()
    assert [t.task for t in odograph.open(tmp_path / "s").trajectories()] == ["kept"]


def test_what_a_killed_process_had_in_memory_goes(tmp_path: Path) -> None:
    """The next `memory:` store removes it; a store that is in use, by a process or by one that it forked, stays."""
    code = """
        import os, sys, time, odograph
        store = odograph.open("memory:")
        store.record(task="secret prompt").finish()
        print(store.root, flush=True)
        if sys.argv[1] == "fork" and os.fork():
            os._exit(0)
        time.sleep(60)
    """
    for how in ("alone", "fork"):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), how], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        try:
            if how == "fork":
                process.wait()
            odograph.open("memory:").close()
            assert folder.is_dir()
            if how == "fork":
                for entry in Path("/proc").iterdir():
                    if entry.name.isdigit() and entry.name != str(os.getpid()):
                        try:
                            links = [os.readlink(link) for link in (entry / "fd").iterdir()]
                        except OSError:
                            continue
                        if str(folder) in links:
                            os.kill(int(entry.name), signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        until(lambda folder=folder: odograph.open("memory:").close() or not folder.exists())  # type: ignore[misc]


def test_settings_that_get_lost_under_a_writer_stop_it(tmp_path: Path) -> None:
    """Once the settings can't be read any more, nobody knows what to redact: `health()` says so, and what is recorded waits until they
    are back."""
    store = odograph.open(tmp_path / "s", redact=True)
    run = store.record(task="a")
    file = tmp_path / "s" / "store.json"
    settings = file.read_bytes()
    file.write_text("{")
    store.backend.journal.check()
    assert "store.json" in str(store.health()["failure"])
    with pytest.raises(RuntimeError, match="StoreError"):
        run.finish(SECRET)
    assert store.health()["waiting"] == 1
    file.write_bytes(settings)
    store.record(task="b").finish()
    assert (store.health()["failure"], store.health()["waiting"]) == (None, 0)
    assert {t.status for t in store.trajectories()} == {"completed"}
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in (tmp_path / "s" / "journal").iterdir())


def test_settings_that_can_be_read_again_let_go_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that failed for a moment, when another process had touched the settings: the next try reads them again."""
    store = odograph.open(tmp_path / "s", redact=True)
    run = store.record(task="a")

    def fails(folder: Path) -> Any:
        raise odograph.StoreError("Input/output error")

    with monkeypatch.context() as patch, store.backend.journal.lock:
        patch.setattr(backend, "settings_in", fails)
        os.utime(tmp_path / "s" / "store.json", ns=(1, 1))
        store.backend.journal.check()
        with pytest.raises(RuntimeError, match="StoreError"):
            run.finish(SECRET)
        assert store.health()["waiting"] == 1
    store.backend.journal.release()
    assert (store.health()["failure"], store.health()["waiting"]) == (None, 0)
    assert store.trajectory(run.id).status == "completed"
    assert holds(tmp_path, SECRET) == []


def test_what_is_no_folder_of_ours_is_passed_over_when_others_are_swept(tmp_path: Path) -> None:
    """A file, or a folder that another process removes at this moment; what nobody holds goes. A folder of ours that another
    process swept is made again."""
    (tmp_path / "of-file").touch()
    (tmp_path / "of-dead").mkdir()
    made = memory.fresh("of-", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"of-file", made.name}
    folder = memory.made()
    os.close(memory.hold(folder))
    folder.rmdir()
    os.close(memory.hold(folder))
    assert folder.is_dir()
    memory.remove(folder)
    with pytest.raises(odograph.StoreError, match="is gone"):
        memory.hold(made.with_name("gone"))


@pytest.mark.parametrize("how", ["closed", "deleted"])
def test_a_memory_store_that_is_used_again_is_nobodys_to_remove(how: str) -> None:
    """A `memory:` store that was closed, or whose folder was deleted, and that records again: what another process opens leaves it."""
    store = odograph.open("memory:")
    store.record(task="before").finish()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if how == "closed":
            store.close()
        else:
            shutil.rmtree(store.root)
            store.backend.journal.check()
        store.record(task="after").finish()
        done = subprocess.run(
            [sys.executable, "-c", "import odograph; odograph.open('memory:')"], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        store.backend.journal.check()
        assert store.health()["files_lost"] == (how == "deleted")
    assert "after" in [t.task for t in store.trajectories()]
    store.close()
    assert not store.root.exists()


def test_a_memory_store_stays_while_anybody_here_has_it_open() -> None:
    """A copy of it that is closed takes nothing away; the last one does. It may be closed twice."""
    store = odograph.open("memory:")
    id = store.record(task="t").id
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store)), odograph.open(store.backend.place)):
        other.append(id).note("by another")
        other.close()
        other.close()
    assert len(store.trajectory(id).notes) == 3
    last = copy.deepcopy(store)
    store.close()
    assert last.trajectory(id).task == "t"
    last.close()
    assert not store.root.exists()


def test_another_process_that_closes_a_memory_store_holds_nothing_of_it() -> None:
    """A worker that opens the store for each task has no more files open after many of them, and leaves the store."""
    store = odograph.open("memory:")
    id = store.record(task="t").id
    code = """
        import os, pickle, sys, odograph
        place = pickle.loads(bytes.fromhex(sys.argv[1]))
        count = []
        for _ in range(3):
            with odograph.open(place) as store:
                store.append(sys.argv[2]).note("of a worker")
            count.append(len(os.listdir("/proc/self/fd")))
        print(count[2] - count[0])
    """
    assert python(code, pickle.dumps(store.backend.place).hex(), id) == "0\n"
    assert len(store.trajectory(id).notes) == 3
    store.close()


def test_a_memory_store_goes_with_its_process_and_reopens_in_a_child() -> None:
    """A process that ends without closing it leaves nothing; another process reopens it by its place while it is there."""
    code = """
        import pickle, subprocess, sys, odograph
        store = odograph.open("memory:", redact=True)
        id = store.record(task="t").id
        child = "import pickle, sys, odograph; odograph.open(pickle.loads(bytes.fromhex(sys.argv[1]))).append(sys.argv[2]).note('child')"
        subprocess.run([sys.executable, "-c", child, pickle.dumps(store.backend.place).hex(), id], check=True)
        print(store.root, store.trajectory(id).notes[0].data)
    """
    folder, said = python(code).split()
    assert said == "child"
    assert not Path(folder).exists()
