"""Nothing that was recorded, imported or named by a stranger is obeyed by a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import odograph
from tests.terminal import rest_of

#: Nothing of ours is painted in one colour twice.
_THEIRS = "\x1b[35m\x1b[35m"
EVIL = "ev" + _THEIRS + "\x1b]52;c;eA==\x07\x9b31m\x9d0;t\x9c\x7f\u202e\u2066\u200b\u200f\u2028\u2029\ufeff\x08\r\x00\U000e0041il"
_OURS = re.compile(r"\x1b\[(?:0|1|2|3[1-6])m")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("evil") / "store"
    with odograph.open(where) as store:
        with store.record(task=EVIL, agent=EVIL, tags=[EVIL], group=EVIL, metadata={EVIL: EVIL}) as run:
            with run.step({EVIL: EVIL}) as step:
                call = step.llm_call(
                    model=EVIL,
                    messages=[{"role": EVIL, "content": EVIL, EVIL: EVIL}],
                    response={"role": EVIL, "content": EVIL},
                    reasoning=EVIL,
                    tokenizer=EVIL,
                    finish_reason=EVIL,
                    purpose=EVIL,
                    usage={EVIL: EVIL},
                )
                step.action(EVIL, {EVIL: EVIL}, {EVIL: EVIL}, error=ValueError(EVIL), llm_call=call)
                step.context(EVIL, EVIL, query=EVIL, purpose=EVIL)
                step.reward(1.0, EVIL, author=EVIL, rationale=EVIL)
                step.label(EVIL, EVIL, description=EVIL, rationale=EVIL, author=EVIL)
                step.note(EVIL, name=EVIL)
            run.sub_agent(EVIL).note(EVIL)
    return where


#: One command after the other, as loading what they need takes longest.
_EACH = """
import json, sys
from odograph.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
    sys.stderr.flush()
    print("-- next --", flush=True)
"""


def output(commands: list[list[str]], where: Path, tty: bool) -> list[str]:
    """What each of the commands writes, on a terminal or not."""
    program = [sys.executable, "-c", _EACH, json.dumps(commands)]
    env = {**os.environ, "ODOGRAPH_STORE": str(where), "TERM": "xterm", "TQDM_DISABLE": "1", "COLUMNS": "400"}
    if not tty:
        said = subprocess.run(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env).stdout.decode()
    else:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(program, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        data = rest_of(ours)
        os.close(ours)
        process.wait()
        assert _THEIRS not in data.decode()  # a colour of content is content
        said = _OURS.sub("", data.decode()).replace("\r\n", "\n")
    *each, rest = said.split("-- next --\n")
    assert (len(each), rest) == (len(commands), ""), said
    return each


def left_in(text: str) -> list[str]:
    return sorted({f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\t"})


@pytest.mark.parametrize("tty", [True, False])
def test_no_command_writes_what_a_terminal_obeys(store: Path, tmp_path: Path, tty: bool) -> None:
    """Every string of every record is full of control, bidi and zero-width characters; no command writes one, in text or JSON."""
    with odograph.open(store) as opened:
        id = next(iter(opened.trajectories())).id
    evil = tmp_path / (EVIL.replace("\x00", "").replace("/", "") + ".json")
    evil.write_text("{}")
    every = [["ls"], ["show", id], ["search", "ev"], ["validate"], ["stats"], ["doctor"], ["lineage", id], ["diff", id, id]]
    every += [["import", str(evil), "--dry-run"], ["tail", id], ["train", "--dry-run"], ["judge", "--dry-run", "--model", "m"]]
    every += [
        ["score", "completion", "--again", "--processes", "1"],
        ["fork", id, "--base-url", "http://127.0.0.1:9"],
        ["replay", id],
    ]
    commands = [
        [*command, *more]
        for number, command in enumerate(every)
        for more in ([[], ["--json"]] if number < 9 else [[]] if tty else [["--json"]])  # slow ones
    ]
    commands.append(["export", "--to", "openai", "-o", str(tmp_path / "ev\x1b[31mil"), *([] if tty else ["--json"])])
    commands.append(["sql", "--csv", "select task, agent from trajectories"])
    wrong = EVIL.replace("\x00", "")
    commands += [["show", wrong], ["ls", "--where", wrong], [wrong]]
    for command, said in zip(commands, output(commands, store, tty), strict=True):
        assert said.strip(), command
        assert "Traceback" not in said, said
        assert not left_in(said), command


def test_json_stays_the_same_value(store: Path) -> None:
    """The escapes in `--json` are JSON's own: a script reads the very text that was recorded."""
    shown = json.loads(output([["ls", "--json"]], store, False)[0].splitlines()[0])
    found = shown[0] if isinstance(shown, list) else shown
    assert found["task"] == EVIL


def test_warnings_are_safe_too() -> None:
    """What Odograph warns of while a command runs goes to the same guarded stderr: a name in it obeys to no terminal."""
    code = """
from odograph.cli.terminal import guarded
from odograph.log import logger
with guarded():
    logger.warning("the file %s is damaged", "\\x1b[2J\\u202e")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "the file \\x1b[2J\\u202e is damaged\n"
