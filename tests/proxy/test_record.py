"""`odograph record -- CMD`: a program runs as it would without us, and its model calls are recorded."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.proxy import agents
from tests.llm_server import Answer, LLMServer
from tests.proxy.wire import Wire, json_answer
from tests.terminal import rest_of
from tests.threads import to_a_thread
from tests.waiting import until

SCRIPT = """
import anthropic, openai
user = [{"role": "user", "content": "2+2"}]
print(openai.OpenAI().chat.completions.create(model="m", messages=user).choices[0].message.content)
print(anthropic.Anthropic().messages.create(model="c", max_tokens=9, messages=user).content[0].text)
"""

#: The same without an SDK, which takes a while to import.
QUICK = """
import json, os, urllib.request
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "2+2"}]}).encode()
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, {"content-type": "application/json"})
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""

#: What of Codex matters here: its base URL comes by a flag.
CODEX = QUICK.replace("import json, os,", "import json, os, sys,").replace(
    'os.environ["OPENAI_BASE_URL"]', "json.loads(sys.argv[sys.argv.index('-c') + 1].partition('=')[2])"
)


def environment(server: LLMServer | Wire, home: Path) -> dict[str, str]:
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "HOME": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return {"PATH": os.environ["PATH"], **keys, "OPENAI_BASE_URL": server.url + "/v1", "ANTHROPIC_BASE_URL": server.url}


def record(
    folder: Path, server: LLMServer | Wire, *argv: str, flags: tuple[str, ...] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", "--store", str(folder / "s"), "record", *flags, "--", *argv]
    env = environment(server, folder) | more.pop("env", {})
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, **more)


def recorded(folder: Path) -> Any:
    with odograph.open(folder / "s") as store:
        (t,) = store.trajectories()
        return t


def test_a_plain_script_is_recorded_without_a_change(tmp_path: Path) -> None:
    """A script with the OpenAI and the Anthropic SDK, as it stands: one trajectory with both calls, and one line at the end."""
    (tmp_path / "agent.py").write_text(SCRIPT)
    with LLMServer([Answer(text="four")]) as server:
        flags = ("--task", "sum", "--tag", "a", "--tag", "b", "--group", "g")
        done = record(tmp_path, server, sys.executable, "agent.py", flags=flags)
    t = recorded(tmp_path)
    assert (done.returncode, done.stdout) == (0, "four\nfour\n")
    assert done.stderr == f"odograph: recorded 2 calls, 2 steps, 0 actions: odograph show {t.id[-8:]} --store {tmp_path / 's'}\n"
    assert (t.task, t.tags, t.group, t.status, t.end.answer) == ("sum", ["a", "b"], "g", "completed", "four")
    assert [c.dialect for c in t.llm_calls] == ["openai.chat", "anthropic.messages"]
    assert t.metadata["command"] == [sys.executable, "agent.py"] and t.started is not None
    assert odograph.validate(t).valid


def test_exit_status_and_stdin_are_the_programs(tmp_path: Path) -> None:
    """Exit status and stdin pass through; a failed program is a failed trajectory; a program that is not there is status 127,
    and one that can't be run is 126."""
    (tmp_path / "agent.py").write_text(QUICK + "import sys\nprint(sys.stdin.read())\nsys.exit(3)\n")
    with LLMServer([Answer(text="four")]) as server:
        done = record(tmp_path, server, sys.executable, "agent.py", input="typed")
        assert (done.returncode, done.stdout) == (3, "four\ntyped\n")
        missing = record(tmp_path, server, "no-such-program")
        (tmp_path / "broken").write_text("x")
        (tmp_path / "broken").chmod(0o755)
        broken = record(tmp_path, server, "./broken")
        quiet = record(tmp_path, server, "true")
    t = recorded(tmp_path)
    assert (t.status, t.end.error, t.end.metrics) == ("failed", "exit status 3", {"exit_status": 3})
    assert (missing.returncode, missing.stderr) == (
        127,
        "odograph: no program 'no-such-program' on the path; nothing is recorded\n",
    )
    assert (broken.returncode, broken.stderr) == (
        126,
        "odograph: './broken' can't be run: exec format error; nothing is recorded\n",
    )
    assert (quiet.returncode, quiet.stderr) == (
        0,
        "odograph: no call of a model passed; nothing is recorded (a program that names its base URL itself, or clears its"
        " environment, is not led here)\n",
    )


@pytest.mark.parametrize("where", ["a pipe", "a full disk"])
def test_a_last_line_that_nobody_reads_changes_no_status(tmp_path: Path, where: str) -> None:
    """`odograph record -- CMD 2>&1 | head`: the exit status is the program's, also where the last line can't be written."""
    if where == "a pipe":
        out, err = os.pipe()
        os.close(out)
    else:
        err = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "record", "--", sys.executable, "-c"]
    with LLMServer([Answer()]) as server:
        for code in (QUICK, ""):
            done = subprocess.run(
                [*command, code + "\nraise SystemExit(3)"], env=environment(server, tmp_path), stderr=err, check=False
            )
            assert done.returncode == 3
    os.close(err)


def test_signals_reach_the_program(tmp_path: Path) -> None:
    """SIGTERM goes to the program, which ends as it likes; where a signal ended it, `record` ends by the same signal."""
    (tmp_path / "agent.py").write_text(QUICK + "import pathlib, time\npathlib.Path('ready').touch()\ntime.sleep(60)\n")
    with LLMServer([Answer()]) as server:
        command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "record", "--", sys.executable, "agent.py"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(server, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        until((tmp_path / "ready").exists, process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    t = recorded(tmp_path)
    assert (process.returncode, t.status, t.end.error) == (-signal.SIGTERM, "failed", f"signal {int(signal.SIGTERM)}")


def test_a_signal_that_another_thread_gets_reaches_the_program(tmp_path: Path) -> None:
    """The kernel may hand a signal to any thread of `record`, whose main thread waits for the program."""
    code = "import os, pathlib, signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: os._exit(7))\n"
    (tmp_path / "agent.py").write_text(code + "pathlib.Path('ready').touch()\nfor _ in range(1200):\n    time.sleep(0.05)\n")
    with LLMServer([Answer()]) as server:
        command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "record", "--", sys.executable, "agent.py"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(server, tmp_path), stderr=subprocess.DEVNULL)
        until((tmp_path / "ready").exists, process)
        to_a_thread(process.pid, signal.SIGUSR1)
        assert process.wait() == 7


def test_a_blocked_sigchld_hides_no_end(tmp_path: Path) -> None:
    """Some supervisors start programs with SIGCHLD blocked: `record` sees its program's end there, too."""
    command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "record", "--", sys.executable, "-c", "exit(7)"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        with LLMServer([Answer()]) as server:
            process = subprocess.Popen(command, env=environment(server, tmp_path), stderr=subprocess.DEVNULL)
            assert process.wait() == 7
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_ctrl_c_after_the_programs_end_loses_nothing(tmp_path: Path) -> None:
    """Who presses Ctrl-C again while `record` ends the trajectory gets the program's exit status and the line at the end."""
    (tmp_path / "left.py").write_text(QUICK)
    code = "import os, pathlib, subprocess, sys\nsubprocess.Popen([sys.executable, 'left.py'])\n"
    code += "while not pathlib.Path('asked').exists():\n    pass\npathlib.Path('pid').write_text(str(os.getpid()))\nos._exit(3)\n"
    (tmp_path / "agent.py").write_text(code)
    gate = threading.Event()

    def slow(request: dict[str, Any]) -> Answer:
        (tmp_path / "asked").touch()
        gate.wait(60)
        return Answer(text="four")

    with LLMServer(slow) as server:
        command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "record", "--", sys.executable, "agent.py"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(server, tmp_path), stderr=subprocess.PIPE, text=True)
        pid = tmp_path / "pid"
        until(lambda: pid.exists() and not Path("/proc", pid.read_text() or "self").exists(), process)
        process.send_signal(signal.SIGINT)  # the program is gone, and a call of its child still runs
        process.send_signal(signal.SIGTERM)
        gate.set()
        _, said = process.communicate()
    t = recorded(tmp_path)
    assert (process.returncode, t.status, t.end.error) == (3, "failed", "exit status 3")
    assert said.startswith("odograph: recorded 1 calls")


def in_terminal(code: str, server: LLMServer, folder: Path) -> tuple[int, int]:
    """`record` of a program, with a terminal of its own: the process, and the terminal's other end."""
    (folder / "agent.py").write_text(code)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        command = [sys.executable, "-m", "odograph", "--store", "s", "record", "--", sys.executable, "agent.py"]
        os.execve(sys.executable, command, environment(server, folder))
    return pid, fd


def test_the_terminal_is_the_programs(tmp_path: Path) -> None:
    """In a terminal the program has the terminal, and Ctrl-C interrupts the program and not the recording."""
    # a handler, and short sleeps: Python may drop an exception, and a signal that comes just before a sleep waits for its end
    code = "import os, signal, sys, time\n"
    code += "signal.signal(signal.SIGINT, lambda *_: (os.write(1, b'interrupted\\n'), os._exit(0)))\n"
    code += "print('tty' if sys.stdin.isatty() and os.isatty(1) else 'none', flush=True)\n"
    code += "while True:\n    time.sleep(0.05)\n"
    with LLMServer([Answer()]) as server:
        pid, fd = in_terminal(code, server, tmp_path)
        seen = b""
        while b"tty" not in seen:
            seen += os.read(fd, 1000)
        os.write(fd, b"\x03")
        seen += rest_of(fd)
        _, status = os.waitpid(pid, 0)
    assert b"interrupted" in seen and b"Traceback" not in seen and os.waitstatus_to_exitcode(status) == 0, seen


def test_a_program_that_stops_gives_the_terminal_back(tmp_path: Path) -> None:
    """A program that stops itself in a terminal (Ctrl-Z in Claude Code or in an editor) stops `record`, too, so that the shell goes
    on; what continues `record` continues the program."""
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nprint('goes on', flush=True)\n"
    with LLMServer([Answer()]) as server:
        pid, fd = in_terminal(code, server, tmp_path)
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(pid, signal.SIGCONT)
        seen = b""
        while b"goes on" not in seen:
            seen += os.read(fd, 1000)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_program_that_stops_again_stays_stopped(tmp_path: Path) -> None:
    """`fg` continues `record` and the program. If the program stops again before `record` goes on (Ctrl-Z, on a busy machine),
    the program stays stopped, and `record` stops again, so that the shell goes on."""
    stop = "os.kill(os.getpid(), signal.SIGSTOP)\n"
    code = f"import os, pathlib, signal\npathlib.Path('pid').write_text(str(os.getpid()))\n{stop}pathlib.Path('again').touch()\n{stop}"
    code += "pathlib.Path('on').touch()\n"
    with LLMServer([Answer()]) as server:
        pid, fd = in_terminal(code, server, tmp_path)
        os.waitpid(pid, os.WUNTRACED)
        program = int((tmp_path / "pid").read_text())
        os.kill(program, signal.SIGCONT)
        while not (tmp_path / "again").exists() or Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and not (tmp_path / "on").exists()
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0 and (tmp_path / "on").exists()


@pytest.mark.parametrize(("inside", "ignored"), [(False, ""), (True, ""), (True, "runs/\n")])
def test_git_before_and_after(tmp_path: Path, inside: bool, ignored: str) -> None:
    """With --git, head and diff of the folder before and after are kept, new files too, but not the store itself; the index and the
    repository stay as they were."""
    work = tmp_path / "work"
    work.mkdir()

    def git(*arguments: str) -> str:
        about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        return subprocess.run(["git", *about, *arguments], cwd=work, capture_output=True, text=True, check=True).stdout

    git("init")
    (work / "old.txt").write_text("one\n")
    (work / ".gitignore").write_text(ignored)
    git("add", ".")
    git("commit", "-m", "first")
    (work / "old.txt").write_text("two\n")
    (work / "agent.py").write_text(QUICK + "open('made.txt', 'w').write('made\\n')\n")
    status, objects = git("status", "--porcelain"), git("count-objects")
    with LLMServer([Answer()]) as server:
        env = environment(server, tmp_path)
        where = work / "runs" if inside else tmp_path / "s"
        flags = ["--store", str(where), "record", "--git", "--", sys.executable, "agent.py"]
        for _ in range(2):
            done = subprocess.run([sys.executable, "-m", "odograph", *flags], cwd=work, env=env, capture_output=True, check=False)
            assert done.returncode == 0
    with odograph.open(where) as store:
        states = [s for t in store.trajectories() for s in (t.metadata["git"], *(n.data for n in t.notes if n.name == "git"))]
    known = git("rev-parse", "HEAD").strip(), "main", True
    found = [(s["head"], s["branch"], "+two" in s["diff"], "b/made.txt" in s["diff"]) for s in states]
    assert found == [(*known, made) for made in (False, True, True, True)] and not any("runs" in s["diff"] for s in states)
    unknown = "?? made.txt\n" + ("?? runs/\n" if inside and not ignored else "")
    assert git("status", "--porcelain") == status + unknown and git("count-objects") == objects


def test_into_session_adds_what_the_wire_has_not(tmp_path: Path) -> None:
    """The agent's own session file says more of its tools: outcome and details are added beside what crossed the wire."""
    call = {"id": "t1", "type": "function", "function": {"name": "Bash", "arguments": '{"command": "ls"}'}}
    claude = tmp_path / "bin" / "claude"
    claude.parent.mkdir()
    about = {"sessionId": "s-1", "cwd": "/w", "version": "2.1", "isSidechain": False}
    use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    lines: list[dict[str, Any]] = [
        {"type": "user", "uuid": "u1", "parentUuid": None, "timestamp": "2026-01-01T00:00:00Z", "message": {"role": "user", "content": "list"}, **about},
        {"type": "assistant", "uuid": "u2", "parentUuid": "u1", "timestamp": "2026-01-01T00:00:01Z", "message": {"id": "m1", "role": "assistant", "model": "c", "content": [use]}, **about},
        {"type": "user", "uuid": "u3", "parentUuid": "u2", "timestamp": "2026-01-01T00:00:02Z", "toolUseResult": {"stdout": "a.txt", "interrupted": False}, "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a.txt"}]}, **about},
    ]  # fmt: skip
    claude.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, urllib.request\n"
        "body = {'model': 'c', 'messages': [{'role': 'user', 'content': 'list'}], 'tools': [{'name': 'Bash'}]}\n"
        "url = os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages'\n"
        "headers = {'x-claude-code-session-id': 's-1'}\n"
        "urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()\n"
        "place = pathlib.Path(os.environ['HOME'], '.claude/projects/p')\nplace.mkdir(parents=True)\n"
        f"(place / 's-1.jsonl').write_text({chr(10).join(map(json.dumps, lines))!r})\n"
    )
    claude.chmod(claude.stat().st_mode | stat.S_IXUSR)
    with LLMServer([Answer(text="", tool_calls=[call])]) as server:
        path = f"{claude.parent}{os.pathsep}{os.environ['PATH']}"
        done = record(tmp_path, server, "claude", flags=("--into-session",), env={"PATH": path})
    t = recorded(tmp_path)
    assert done.returncode == 0 and "1 session files" in done.stderr, done.stderr
    (action,) = t.steps[0].actions  # no request brought its result any more
    assert (action.name, action.result, action.tool_call_id, action.llm_call) == ("Bash", "a.txt", "t1", t.llm_calls[0].id)
    assert t.agent == "claude-code" and [n.name for n in t.notes] == ["session"] and odograph.validate(t).valid


def test_into_session_finds_tools_without_ids(tmp_path: Path) -> None:
    """Gemini's model gives no ids: the agent has other ids in its session than on the wire, and the same tool call twice. Each tells of
    its own, and the last result, which no request brought, is added. A shell started the agent."""

    def asks(number: int) -> dict[str, Any]:
        return {"functionCall": {"name": "sh", "args": {"command": "ls"}, "id": f"sh_{number}"}}

    def gives(number: int) -> dict[str, Any]:
        return {"functionResponse": {"name": "sh", "id": f"sh_{number}", "response": {"output": str(number)}}}

    turns: list[Any] = [{"role": "user", "parts": [{"text": "list"}]}]
    bodies, lines = [], [{"sessionId": "s-1", "projectHash": "p", "startTime": "2026-01-01T00:00:00Z", "kind": "main"}]
    lines.append({"id": "u", "timestamp": "2026-01-01T00:00:00Z", "type": "user", "content": [{"text": "list"}]})
    for number in (1, 2):
        bodies.append({"contents": list(turns), "tools": [{"functionDeclarations": [{"name": "sh"}]}]})
        turns += [{"role": "model", "parts": [asks(number)]}, {"role": "user", "parts": [gives(number)]}]
        tool = {
            "id": f"sh__sh_{number}",
            "name": "sh",
            "args": {"command": "ls"},
            "result": [gives(number)],
            "status": "success",
            "resultDisplay": f"shown {number}",
        }
        lines.append({"id": f"m{number}", "timestamp": f"2026-01-01T00:00:0{number}Z", "type": "gemini", "content": "", "model": "g", "toolCalls": [tool]})  # fmt: skip
    gemini = tmp_path / "bin" / "gemini"
    gemini.parent.mkdir()
    gemini.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, urllib.request\n"
        "url = os.environ['GOOGLE_GEMINI_BASE_URL'] + '/v1beta/models/g:generateContent'\n"
        f"for body in {bodies!r}:\n"
        "    headers = {'user-agent': 'GeminiCLI/0.61'}\n"
        "    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()\n"
        "place = pathlib.Path(os.environ['HOME'], '.gemini/tmp/p/chats')\nplace.mkdir(parents=True)\n"
        f"(place / 'session-1.jsonl').write_text({chr(10).join(map(json.dumps, lines))!r})\n"
    )
    gemini.chmod(0o755)
    answer = {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": {"name": "sh", "args": {"command": "ls"}}}]}, "finishReason": "STOP"}]}  # fmt: skip
    with Wire(lambda head, body: json_answer(answer)) as upstream:
        path = f"{gemini.parent}{os.pathsep}{os.environ['PATH']}"
        flags = ("--into-session", "--upstream", upstream.url)
        done = record(tmp_path, upstream, "sh", "-c", "gemini; true", flags=flags, env={"PATH": path})
    t = recorded(tmp_path)
    assert "1 session files" in done.stderr, done.stderr
    told = [
        [(a.ok, (a.extra["session"]["extra"] if "session" in a.extra else a.extra)["resultDisplay"]) for a in s.actions]
        for s in t.steps
    ]
    assert told == [[(True, "shown 1")], [(True, "shown 2")]] and odograph.validate(t).valid
    assert t.steps[0].actions[0].result == {"output": "1"} and "2" in json.dumps(t.steps[1].actions[0].result)


@pytest.mark.parametrize(
    ("named", "argv", "at"),
    [
        (None, ["codex", "exec"], 1),
        (None, ["npx", "-y", "codex@1", "exec"], 3),
        ("codex", ["./my-codex", "exec"], 1),
        (None, ["sh"], 1),
    ],
)
def test_flags_stand_behind_the_program(named: str | None, argv: list[str], at: int) -> None:
    """Also behind one of another name, whose agent the user names; a program of no known agent gets none."""
    bases = {"openai": "http://p/t/x/v1", "anthropic": "http://q/t/x", "gemini": "http://r/t/x"}
    row = agents.agent_of(argv, named)
    assert agents.command(row, bases, argv) == [*argv[:at], *row.flags(bases), *argv[at:]]
    assert bool(row.flags(bases)) == (argv != ["sh"])


def test_each_agent_is_led_by_its_own_variables_and_flags(tmp_path: Path) -> None:
    """A program's name finds its row; the user's own configuration is merged, and no file of it changes."""
    bases = {"openai": "http://p/t/x/v1", "anthropic": "http://q/t/x", "gemini": "http://r/t/x"}

    def led(argv: list[str], env: dict[str, str]) -> tuple[str, dict[str, str], list[str]]:
        row = agents.agent_of(argv)
        place = tmp_path / row.name
        place.mkdir()
        return row.name, agents.environment(row, bases, {"HOME": str(tmp_path), **env}, argv, place), row.flags(bases)

    name, env, flags = led(["/usr/bin/codex", "exec"], {"NO_PROXY": "lan"})
    assert (name, flags, env["NO_PROXY"]) == ("codex", ["-c", 'openai_base_url="http://p/t/x/v1"'], "lan,127.0.0.1,localhost")
    mine = {"theme": "dark", "provider": {"odo": {"options": {"apiKey": "k", "baseURL": "http://old"}}}}
    _, env, _ = led(["opencode", "run", "-m", "odo/fake"], {"OPENCODE_CONFIG_CONTENT": json.dumps(mine)})
    config = json.loads(env["OPENCODE_CONFIG_CONTENT"])
    assert config["theme"] == "dark" and config["provider"]["odo"]["options"] == {"apiKey": "k", "baseURL": "http://p/t/x/v1"}
    assert config["provider"]["anthropic"]["options"]["baseURL"] == "http://q/t/x/v1"
    home = tmp_path / ".pi/agent"
    home.mkdir(parents=True)
    models = '{"providers": {"odo": {"baseUrl": "http://old", "api": "openai-completions"}}}'
    (home / "models.json").write_text(models)
    (home / "auth.json").write_text("{}")
    _, env, _ = led(["pi"], {})
    place = Path(env["PI_CODING_AGENT_DIR"])
    assert json.loads((place / "models.json").read_text())["providers"]["odo"]["baseUrl"] == "http://p/t/x/v1"
    assert (home / "models.json").read_text() == models and (place / "auth.json").resolve() == home / "auth.json"
    for program, wanted in (
        ("claude", "claude-code"),
        ("gemini", "gemini-cli"),
        ("qwen", "qwen-code"),
        ("aider", "aider"),
        ("mini", "mini-swe-agent"),
        ("python", "generic"),
    ):
        row, env, _ = led([program], {})
        assert row == wanted and (env["OPENAI_BASE_URL"], env["ANTHROPIC_BASE_URL"], env["GOOGLE_GEMINI_BASE_URL"]) == tuple(
            bases.values()
        )


@pytest.mark.parametrize(
    "argv",
    [["sh", "-c", "exec codex exec hi"], ["env", "X=1", "codex", "exec", "hi"], ["make", "-s"], ["npx", "-y", "@openai/codex@1"]],
)
def test_an_agent_that_something_else_starts_is_led_too(tmp_path: Path, argv: list[str]) -> None:
    """A shell, `env`, `make`, `npx` or a script starts Codex, which flags alone lead; pi and opencode find their configurations."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("codex", "npx"):
        (programs / name).write_text(f"#!{sys.executable}\n" + CODEX)
        (programs / name).chmod(0o755)
    (tmp_path / "makefile").write_text("all:\n\t@codex exec hi\n")
    (tmp_path / ".pi/agent/bin").mkdir(parents=True)
    with LLMServer([Answer(text="four")]) as server:
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        done = record(tmp_path, server, *argv, env={"PATH": path, "OPENAI_API_KEY": "k"})
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "four"), done.stderr
    assert recorded(tmp_path).llm_calls[0].text == "four" and not list((tmp_path / ".pi/agent/bin").iterdir())


def test_upstreams_are_those_of_the_environment() -> None:
    """The base URLs of the user's environment are the upstreams, with their paths; --upstream is one for all."""
    found = agents.upstreams({"OPENAI_API_BASE": "http://gw:1/openai/v1/", "ANTHROPIC_BASE_URL": ""}, None)
    assert found["openai"] == ("http://gw:1", "/openai/v1") and found["anthropic"] == ("https://api.anthropic.com", "")
    assert agents.upstreams({}, "http://gpu:8000") == {
        "openai": ("http://gpu:8000", "/v1"),
        "anthropic": ("http://gpu:8000", ""),
        "gemini": ("http://gpu:8000", ""),
    }
    assert agents.based("http://p", "odo-1", "/task/v1") == "http://p/t/odo-1/-/task/v1"
    with pytest.raises(InvalidInput, match="http"):
        agents.upstreams({"OPENAI_BASE_URL": "ftp://x"}, None)


def test_wrong_use_is_one_sentence(tmp_path: Path) -> None:
    """No program, an agent that is not known, a base URL that is none: status 2 and one line; nothing is made."""
    with LLMServer([Answer()]) as server:
        for argv, flags, said in (
            ((), (), "a program was expected"),
            (("true",), ("--agent", "x"), "no agent 'x'; there are: claude-code"),
            (("true",), ("--upstream", "x"), "http://"),
        ):
            done = record(tmp_path, server, *argv, flags=flags)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1) and said in done.stderr, done.stderr
    assert not (tmp_path / "s").exists()


def test_keys_on_the_command_line_are_not_stored(tmp_path: Path) -> None:
    """The command is kept with the trajectory, and a key in it is not."""
    key = "sk-ant-api03-" + "A1b2C3d4E5" * 9
    (tmp_path / "agent.py").write_text(QUICK)
    with LLMServer([Answer()]) as server:
        assert record(tmp_path, server, sys.executable, "agent.py", "--key", key).returncode == 0
    assert key.encode() not in b"".join(f.read_bytes() for f in (tmp_path / "s").rglob("*") if f.is_file())
