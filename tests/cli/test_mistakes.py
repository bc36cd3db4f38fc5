"""Whatever a user writes on the command line: exit status 0, 1 or 2 and at most a sentence, never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import COMMANDS, main, parser
from tests.llm_server import Answer, LLMServer

#: What each command needs beside the mistake.
NEEDS: dict[str, list[str]] = {
    "import": ["chat.jsonl"],
    "show": ["ID"],
    "search": ["hi"],
    "score": ["success"],
    "judge": ["--model", "m"],
    "label": ["care.md", "--model", "m"],
    "export": ["--to", "jsonl", "-o", "out"],
    "train": ["--dry-run", "--to", "trl-grpo"],
    "lineage": ["ID"],
    "diff": ["ID", "ID"],
    "compare": ["a", "b"],
    "fork": ["ID"],
    "replay": ["ID"],
    "publish": ["s3://bucket/runs", "--catalog", "sqlite:////dev/null/none"],
    "sql": ["select 1 as one"],
}
#: Nothing, text, no text at all, too large a number, a file that is none of what is wanted, one that fails, a folder, an ill-made pair.
QUICK = ["", "x", "\udce9", "99999999999999999999", "broken.py"]
MANY = [*QUICK, "-1", "0", "nan", "inf", "1.5", "[]", "a=b", "=", ":", ".", "..", "/", "*", "\n", "%", "empty", "text.txt", "text.json", "value.py", "value.py:x",
        "value.py:gone", "os:system", "a,b", "train=1", "train=nan", "7d", "99999999d", "2020-13-45", "é" * 300]  # fmt: skip
#: Not tried: what takes minutes (demo), and what waits for more (tail --follow, servers).
COMMANDS_TRIED = [name for name in COMMANDS if name not in ("demo", "view", "proxy", "record", "serve", "collect")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a store and odd files, and the id of a trajectory."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "broken.py").write_text("1/0\n")
    (folder / "value.py").write_text("x = 5\n")
    (folder / "text.txt").write_text("x")
    (folder / "text.json").write_text("{")
    (folder / "care.md").write_text("---\nscore: 0 to 1\n---\nIs it good?\n")
    (folder / "empty").mkdir()
    (folder / "chat.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    )
    with odograph.open(folder / "s") as store:
        for reward in (0.0, 1.0):
            with store.record(task="t", agent="a", model="m", group="g") as run:
                with run.step({"x": 1}) as step:
                    messages = [{"role": "user", "content": "hi"}]
                    step.llm_call(
                        model="m", messages=messages, response="ok", prompt_token_ids=[1], token_ids=[2], logprobs=[-0.1]
                    )
                    step.action("go", {"a": 1}, "r", ok=True)
                run.reward(reward)
    with LLMServer(judged) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        patch.setenv("OPENAI_API_KEY", "x")
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
        patch.setenv("HF_TOKEN", "x")
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        yield folder, run.id


def judged(request: dict[str, Any]) -> Answer:
    scores = [{"trajectory_id": str(n), "explanation": "fine", "score": 0.5} for n in (1, 2)]
    return Answer(text=json.dumps({"scores": scores}))


def tried(argv: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and stderr of the program, which must not raise."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv)
        except BaseException as error:
            raise AssertionError(f"{argv} raised {type(error).__name__}: {error}") from error
    said = err.getvalue()
    assert "Traceback" not in said, argv
    assert status in (0, 1, 2), argv
    assert status != 2 or said.strip(), argv
    if said.startswith("odograph"):
        assert len(said.splitlines()) == 1 or argv[-1].count("\n"), (argv, said)
    return status, said


def mistakes(command: str, values: list[str], id: str) -> Iterator[list[str]]:
    """A command with each of its arguments set to each value, all others being right."""
    sub: argparse.ArgumentParser = next(a for a in parser(command)._actions if isinstance(a, argparse._SubParsersAction)).choices[
        command
    ]
    right = [id if part == "ID" else part for part in NEEDS.get(command, [])]
    for action in sub._actions:
        long = next((o for o in action.option_strings if o.startswith("--")), None)
        if long in ("--help", "--store", "--follow"):
            continue
        if action.nargs == 0:
            yield [command, *right, str(long)]
            continue
        for value in values:
            if command == "import" and action.dest == "paths" and value in ("/", ".."):
                continue  # whatever lies on the machine
            if long is not None:
                yield [command, *right, f"{long}={value}"]
            elif command in ("export", "train", "judge"):
                yield [command, *right, "--", value]
            else:
                yield [command, "--", value, *right[1:]]


@pytest.mark.parametrize("command", COMMANDS_TRIED)
def test_no_argument_gives_a_traceback(command: str, place: tuple[Path, str]) -> None:
    """Each argument of each command, with nothing, with text, with what is no text, with a huge number, with a file that fails."""
    folder, id = place
    for argv in mistakes(command, QUICK, id):
        tried(["--store", "s", *argv], folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_number_of_a_command_line_is_finite_and_within_64_bits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that nobody can mean is one sentence and status 2, for each flag of each command."""
    whole = parser(command)
    sub: argparse.ArgumentParser = next(a for a in whole._actions if isinstance(a, argparse._SubParsersAction)).choices[command]
    for action in sub._actions:
        if action.type in (None, str) or not action.option_strings or action.choices:
            continue
        flag = action.option_strings[-1]
        for value in ("9" * 20, "9" * 5000, "nan", "1e400", "", "x", "\0"):
            if action.type is float and value == "9" * 20:
                continue
            with pytest.raises(SystemExit) as stop:
                whole.parse_args([command, f"{flag}={value}"])
            said = capsys.readouterr().err
            assert stop.value.code == 2 and len(said.splitlines()) == 1 and " was expected, not " in said, (flag, value, said)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--json", "doctor"], "--json stands behind the command: odograph doctor --json"),
        (["doctor", "--jsn"], "unrecognized arguments: --jsn; did you mean '--json'?"),
    ],
)
def test_an_option_that_is_not_known_is_told(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One that the command knows says where it belongs; another names the one that is most like it."""
    assert main(argv) == 2
    assert capsys.readouterr().err == f"odograph doctor: {says} (see odograph doctor --help)\n"


def test_a_closed_stdout_is_no_mistake(place: tuple[Path, str]) -> None:
    """`odograph ls >&-` ends as with a reader that had enough; no file of the store gets the number of the closed stream."""
    folder, id = place
    for argv in (["ls", "--json"], ["show", id]):
        done = subprocess.run(
            ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "odograph", "--store", "s", *argv],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), argv


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS_TRIED)
def test_no_argument_gives_a_traceback_whatever_it_is(command: str, place: tuple[Path, str]) -> None:
    """The same with many more values."""
    folder, id = place
    for argv in mistakes(command, MANY, id):
        tried(["--store", "s", *argv], folder)


@pytest.mark.parametrize("command", COMMANDS_TRIED)
def test_a_store_that_is_none_is_one_sentence(command: str, place: tuple[Path, str]) -> None:
    """A store that is not there, a file, no folder of ours, a name that is too long: a sentence, status 1, and nothing is made."""
    folder, id = place
    right = [id if part == "ID" else part for part in NEEDS.get(command, [])]
    for store in ("gone", "text.txt", "text.txt/below", "x" * 5000):
        if command == "import" and store == "gone":
            continue  # it makes one
        status, said = tried(["--store", store, command, *right], folder)
        assert (status, len(said.splitlines())) == (1, 1), (store, said)
        assert said.startswith("odograph: "), said
    assert not (folder / "gone").exists()
    tried(["--store", "", command, *right], folder)
    tried([command, "--store"], folder)


def as_nobody(folder: Path, *argv: str) -> tuple[int, str]:
    """The exit status and stderr of a command that another user gives in a folder. The modules that it needs must be loaded: that user
    may not be able to read them."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        status = 99
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            os.setgid(65534)
            os.setuid(65534)
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                status = main([*argv])
            os.write(write, err.getvalue().encode())
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("command", ["ls", "show", "validate", "stats", "doctor", "import"])
def test_a_store_of_somebody_else_is_one_sentence(command: str, place: tuple[Path, str], tmp_path: Path) -> None:
    """A store that may not be read says so."""
    folder, id = place
    right = [id if part == "ID" else part for part in NEEDS.get(command, [])]
    (tmp_path / "locked").mkdir(mode=0o700)
    (tmp_path / "locked" / "s").mkdir()
    tried(["--store", "s", command, *right], folder)
    status, said = as_nobody(folder, "--store", str(tmp_path / "locked" / "s"), command, *right)
    assert status == 1, said
    assert len(said.splitlines()) == 1 and said.startswith("odograph: "), said


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_journal_file_of_somebody_else_is_one_sentence(place: tuple[Path, str]) -> None:
    """A store of which one file may not be read says which."""
    tried(["--store", "s", "ls"], place[0])
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        with odograph.open(Path(name) / "s") as store:
            store.record(task="t").finish()
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0)
        (file,) = Path(name).glob("s/journal/*")
        status, said = as_nobody(Path(name), "--store", "s", "ls")
    assert (status, said) == (1, f"odograph: the journal {str(file)!r} can't be read: Permission denied\n")


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_sub_agents_of_a_session_that_may_not_be_read_are_imported(place: tuple[Path, str]) -> None:
    """The session's own file is named as unreadable; what its sub-agents did is there."""
    tried(["--store", "s", "import", "chat.jsonl"], place[0])
    about = {"sessionId": "s", "timestamp": "2026-03-01T10:00:00Z", "isSidechain": True, "agentId": "a1"}
    found = [{"uuid": role, "parentUuid": None, "type": role, "message": {"role": role, "content": "Ahoy"}, **about} for role in ("user", "assistant")]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        agent = Path(name, "p", "s", "subagents", "agent-a1.jsonl")
        agent.parent.mkdir(parents=True)
        for file in (agent, Path(name, "p", "s.jsonl")):
            file.write_text("".join(json.dumps(line) + "\n" for line in found))
        tried(["--store", "s", "import", str(agent)], place[0])
        file.chmod(0)
        Path(name).chmod(0o777)
        status, said = as_nobody(Path(name), "--store", "s", "import", "p")
        assert status == 1 and "p/s.jsonl" in said and "Traceback" not in said, said
        with odograph.open(Path(name) / "s") as store:
            assert [t.task for t in store.trajectories()] == ["Ahoy"]


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_folder_that_can_not_be_looked_into_costs_no_other_file(place: tuple[Path, str]) -> None:
    """An import of a folder takes the sessions that can be read, and names the files that can't."""
    tried(["--store", "s", "import", "chat.jsonl"], place[0])
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        for inner in ("listed", "open"):
            (Path(name) / inner / "deeper").mkdir(parents=True)
            shutil.copy(place[0] / "chat.jsonl", Path(name) / inner)
        (Path(name) / "listed").chmod(0o744)
        (Path(name) / "shut").mkdir(0)
        Path(name).chmod(0o777)
        status, said = as_nobody(Path(name), "--store", "s", "import", ".")
        assert status == 1 and "Traceback" not in said, said
        assert "listed/chat.jsonl" in said and "open/chat" not in said, said
        assert "failed: shut: [Errno 13] Permission denied" in said, said
        with odograph.open(Path(name) / "s") as store:
            assert len(store) == 1


#: Command lines of which one part would be ignored, and what is said of it.
IGNORED: list[tuple[list[str], str]] = [
    (["show", "ID", "--json", "--markdown"], "argument --markdown: not allowed with argument --json"),
    (["show", "ID", "--compact"], "--compact goes with --json"),
    (["seal", "--every", "5"], "--every goes with --follow"),
    (["seal", "--grace=0"], "--grace goes with --compact"),
    (["export", "--to", "jsonl", "-o", "out", "--seed", "3"], "--seed goes with --split"),
    (["import", "chat.jsonl", "--format", "openai-chat", "--importer", "value.py"], "--format and --importer"),
    (["validate", "--export", "empty", "--workers", "2"], "--export and --workers"),
    (["validate", "--export", "empty", "--min-reward", "0"], "--export and --min-reward"),
    (["validate", "--export", "empty", "--where", "group=g"], "--export and --where"),
    (["validate", "--export", "empty", "ID"], "--export and ID"),
    (["view", "ID", "--html", "x.html", "--port", "80"], "--html and --port"),
    (["label", "care.md", "--human", "--dry-run"], "--human and --dry-run"),
    (["label", "care.md", "--human", "--model", "m"], "--human and --model"),
    (["label", "care.md", "--to-csv", "-", "--sample", "3"], "--to-csv and --sample"),
    (["label", "care.md", "--from-csv", "text.txt", "--group", "g"], "--from-csv and --group"),
    (["label", "care.md", "--from-csv", "text.txt", "--dry-run"], "--from-csv and --dry-run"),
    (["label", "care.md", "--annotator", "ann"], "--annotator goes with --human"),
    (["label", "care.md", "--batch-poll", "3"], "--batch-poll goes with --batch"),
    (["serve", "--tls-key", "text.txt"], "--tls-key goes with --tls-cert"),
    (["compare", "a", "b", "--namespace", "n"], "namespace= goes with by=world"),
    (["ls", "--group", "g", "--where", "group=h"], "group is given twice, as 'g' and as 'h'"),
    (["ls", "--where", "limit=1", "--where", "limit=2"], "limit is given twice, as 1 and as 2"),
    (["ls", "--since", "2026-01-01", "--where", "time_range=7d"], "time_range is given twice"),
    (["demo"], "the demo makes its own store"),  # beside --store
    (["ls", "--token", "x" * 20], "--token is for a served store"),
]


@pytest.mark.parametrize(("argv", "says"), IGNORED, ids=[" ".join(argv) for argv, _ in IGNORED])
def test_what_would_be_ignored_is_refused(argv: list[str], says: str, place: tuple[Path, str]) -> None:
    """Of two options that contradict each other, and of an option that says nothing without another one, none is ignored in silence."""
    folder, id = place
    before = sorted(folder.rglob("*"))
    status, said = tried(["--store", "s", *(id if part == "ID" else part for part in argv)], folder)
    assert status == 2 and says in said, said
    assert sorted(folder.rglob("*")) == before


def test_only_what_is_missing_is_named(place: tuple[Path, str]) -> None:
    """A function that is not given is asked for; the ids beside it may be left out, and are not."""
    status, said = tried(["--store", "s", "score"], place[0])
    assert status == 2 and "required: FUNCTION (see" in said, said


def test_view_says_what_it_can_not_open_or_write(place: tuple[Path, str]) -> None:
    """Three trajectories are not compared, and a page goes into a file of a folder that is there; the sentences name what was given."""
    folder, id = place
    for argv, says in (
        ([id, id, id], "found 3 ids"),
        ([id, "--html", "empty"], "'empty' is a folder"),
        ([id, "--html", "gone/x.html"], "no folder 'gone'"),
    ):
        status, said = tried(["--store", "s", "view", *argv], folder)
        assert status and says in said, said


def test_settings_that_are_wrong_are_one_sentence(place: tuple[Path, str], tmp_path: Path) -> None:
    """`[tool.odograph.validate]` with what it can't be: the file and the setting are named."""
    folder, _ = place
    for text, says in (
        ("[tool", "can't be read"),
        ("tool = 5", "tool of [tool.odograph.validate] is a table, not 5"),
        ("[tool]\nodograph = 'x'", "odograph of [tool.odograph.validate] is a table, not 'x'"),
        ("[tool.odograph]\nvalidate = []", "validate of [tool.odograph.validate] is a table, not []"),
        ("[tool.odograph.validate]\ncolour = 5", "has no 'colour'; there are: profile"),
        ("[tool.odograph.validate]\nworkers = true", "workers in [tool.odograph.validate] is a int, not True"),
        ("[tool.odograph.validate]\nignore = [5]", "ignore in [tool.odograph.validate] is a list of texts, not [5]"),
        ("[tool.odograph.validate]\nprofile = 'x'", "no profile 'x'; there are: all"),
        ("[tool.odograph.validate]\nchecks = ['gone.py']", "no file"),
    ):
        (tmp_path / "pyproject.toml").write_text(text)
        status, said = tried(["--store", str(folder / "s"), "validate"], tmp_path)
        assert status in (1, 2) and says in said and len(said.splitlines()) == 1, (text, said)


@pytest.mark.parametrize("url", ["https://[x", "s3://[x", "http://h:port", "https://[\x1b[31m]"])
def test_what_is_no_url_is_one_sentence(url: str, place: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A URL that Python's parser refuses is a mistake like any other: of a store, of shared tables, of an upstream."""
    for argv in (["--store", url, "ls"], ["publish", url, "--store", str(place[0] / "s")], ["proxy", "--upstream", url]):
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert said.startswith("odograph: ") and said.count("\n") == 1, said
