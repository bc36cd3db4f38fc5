"""Breaks the source one place at a time and lists the breaks that no test notices: `python -m tests.mutate store --most 40`.

A first run of the tests tells which of them reach which line. A break is tried with the tests that reach its line; where they pass,
with all tests of its part, as tests that start processes are not seen to reach what these run.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parent.parent
#: What is broken, and the tests that must notice.
ROOMS = {
    "store": ("store", ["tests/store", "tests/test_packing.py", "tests/capture/test_record.py"]),
    "capture": ("capture", ["tests/capture", "tests/test_redact.py", "tests/store/test_journal.py"]),
    "redact": ("redact.py", ["tests/test_redact.py", "tests/capture/test_laws.py"]),
    "lineage": ("lineage", ["tests/lineage", "tests/training/test_laws.py"]),
    "rows": ("training/rows.py", ["tests/training/test_laws.py", "tests/training/test_samples.py", "tests/training/test_bad_input.py",
                                  "tests/lineage/test_lineage.py"]),
}  # fmt: skip
#: Tests that take many seconds and would find little more.
_QUICK = "not (50_random_moments or 2000_calls or 1000_calls or window_that_slides or linear or bounded or costs_some_copies)"
#: Whole numbers from here on are sizes and limits that somebody chose: one more of them is no other behaviour.
_TUNED = 100
_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip


def changed(node: ast.AST) -> ast.AST | None:
    """The node, broken; None where there is nothing to break."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in _SWAPS:
        new.ops[0] = _SWAPS[type(new.ops[0])]()
    elif isinstance(new, ast.BoolOp | ast.BinOp) and type(new.op) in _SWAPS:
        new.op = _SWAPS[type(new.op)]()
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not):
        return new.operand
    elif isinstance(new, ast.Constant) and type(new.value) in (bool, int) and new.value < _TUNED:
        new.value = not new.value if type(new.value) is bool else new.value + 1
    elif isinstance(new, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue) and not (
        isinstance(new, ast.Expr) and isinstance(new.value, ast.Constant)
    ):
        return ast.Pass()
    else:
        return None
    return new


def unbroken(tree: ast.AST) -> set[ast.AST]:
    """What is not broken: types, which nothing runs, and how far up a warning points."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts.append(node)
        elif isinstance(node, ast.keyword) and node.arg in ("stacklevel", "frozen", "kw_only"):
            parts.append(node.value)
        found.update(below for part in parts if part is not None for below in ast.walk(part))
    return found


def breaks(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, what was changed, the whole file with it) for every place of a file."""
    text = path.read_text()
    lines = text.encode().splitlines(keepends=True)
    tree = ast.parse(text)
    kept = unbroken(tree)
    for node in ast.walk(tree):
        new = changed(node) if hasattr(node, "lineno") and node not in kept else None
        if new is None:
            continue
        start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset  # type: ignore[attr-defined]
        stop = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset  # type: ignore[attr-defined]
        put = ast.unparse(new)
        put = put if isinstance(new, ast.stmt) else f"({put})"
        whole = (text.encode()[:start] + put.encode() + text.encode()[stop:]).decode()
        try:
            compile(whole, str(path), "exec")
        except SyntaxError:  # inside of an f-string, say
            continue
        yield node.lineno, f"{' '.join(ast.unparse(node).split())[:80]} -> {' '.join(put.split())[:80]}", whole  # type: ignore[attr-defined]


class Tests:
    """The tests of a part, run on a copy of the source."""

    def __init__(self, folder: Path, room: str, place: str, tests: list[str]) -> None:
        self._folder, self._tests = folder, tests
        self._env = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        config = folder / "coverage.ini"
        kept = f"*/src/odograph/{place}" + ("" if place.endswith(".py") else "/*")
        config.write_text(f"[run]\ndata_file={folder / room}.coverage\ndynamic_context=test_function\ninclude={kept}\n")
        began = time.monotonic()
        run = self._run(["coverage", "run", f"--rcfile={config}", "-m"], tests, None)
        if run != 0:
            sys.exit(f"the tests of {room} fail with the source as it is")
        self._limit = 30 + 3 * (time.monotonic() - began)
        self._reached = CoverageData(str(folder / f"{room}.coverage"))
        self._reached.read()

    def _run(self, how: list[str], tests: list[str], limit: float | None) -> int | None:
        command = [sys.executable, "-m", *how, "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
        try:
            done = subprocess.run(
                [*command, "-k", _QUICK, *tests],
                cwd=self._folder,
                env=self._env,
                capture_output=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return done.returncode

    def notice(self, file: Path, line: int) -> bool:
        """Whether a test fails, or never ends. A break that no test reaches is not noticed by tests in this process."""
        near = sorted(
            {
                f"{'/'.join(name.split('.')[:-1])}.py::{name.rpartition('.')[2]}"
                for name in self._reached.contexts_by_lineno(str(file)).get(line, ())
                if name.startswith("tests.")
            }
        )
        near = [one for one in near if (self._folder / one.partition("::")[0]).is_file()]
        if near and self._run([], near, self._limit) not in (0, 4, 5):  # 4 and 5: pytest knows none of these names
            return True
        return self._run([], self._tests, self._limit) != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", help=f"what to break (default: all of {', '.join(ROOMS)})")
    parser.add_argument("--most", type=int, default=30, help="places in each room (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="which places are chosen (default: 0)")
    args = parser.parse_args()
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied = Path(shutil.copytree(ROOT / "src", folder / "src"))  # the working tree stays as it is
        for part in ("tests", "docs", "pyproject.toml", "README.md"):
            (folder / part).symlink_to(ROOT / part)
        for room in args.rooms or ROOMS:
            place, tests = ROOMS[room]
            found = copied / "odograph" / place
            files = sorted(found.rglob("*.py")) if found.is_dir() else [found]
            every = [(file, *one) for file in files for one in breaks(file)]
            chosen = random.Random(args.seed).sample(every, min(args.most, len(every)))
            run = Tests(folder, room, place, tests)
            noticed = 0
            for file, line, what, whole in chosen:
                before = file.read_text()
                file.write_text(whole)
                if run.notice(file, line):
                    noticed += 1
                else:
                    print(f"survived: {file.relative_to(copied)}:{line}: {what}", flush=True)
                file.write_text(before)
            survived += len(chosen) - noticed
            print(f"{room}: {noticed} of {len(chosen)} breaks were noticed, of {len(every)} possible", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
