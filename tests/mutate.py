"""Breaks the source one place at a time and lists the breaks that no test notices: `python -m tests.mutate store --most 40`.

A first run of the tests tells which test reaches which line, in processes that the test starts, too. A break is tried with the tests that
reach its line, the quickest first. The places are spread over the files of a part.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, chain, zip_longest
from pathlib import Path
from xml.etree import ElementTree

import pytest
from coverage import Coverage, CoverageData

ROOT = Path(__file__).parent.parent
#: What asks the store for lists and figures.
_ASKING = [
    "tests/viewer/test_sharing.py",
    "tests/viewer/test_server.py",
    "tests/statistics/test_statistics.py",
    "tests/statistics/test_columns.py",
]
_PACKING = ["tests/test_packing.py", "tests/test_codec.py"]
_ROWS = [
    "tests/training/test_laws.py",
    "tests/training/test_samples.py",
    "tests/training/test_bad_input.py",
    "tests/training/test_split.py",
    "tests/training/test_credit.py",
]
_EDITS = ["tests/lineage/test_review.py", "tests/runtime/test_edits.py", "tests/runtime/test_laws.py"]
_SECRETS = ["tests/test_redact.py", "tests/test_secret_shapes.py"]
#: What is broken, and the tests that must notice.
ROOMS = {
    "store": (["store"], ["tests/store", *_ASKING, "tests/capture/test_record.py", *_PACKING]),
    "tables": (["tables"], ["tests/tables", "tests/store", "tests/worlds/test_store.py", "tests/worlds/test_shared.py"]),
    "capture": (
        ["capture"],
        ["tests/capture", "tests/test_redact.py", "tests/store/test_journal.py", "tests/proxy/test_sockets.py", *_EDITS],
    ),
    "redact": (
        ["redact.py", "secrets.py", "secret_shapes.py"],
        [*_SECRETS, "tests/capture/test_laws.py", "tests/store/test_reopen.py"],
    ),
    "lineage": (["lineage"], ["tests/lineage", *_ROWS]),
    "rows": (["training/rows.py"], ["tests/lineage/test_lineage.py", *_ROWS]),
}
#: Tests that take many seconds and would find little more.
_QUICK = "not (hostile or 50_random_moments or 2000_calls or 1000_calls or window_that_slides or linear or bounded or costs_some_copies)"
#: Seconds that one test may take with a break.
_TEST = 100
_ARGUMENTS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-k", _QUICK]
#: How pytest ends where the source can't be imported any more: such a break says nothing of the tests.
_UNREADABLE = (2, 4)
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
    elif isinstance(new, ast.Return) and new.value is not None and not isinstance(new.value, ast.Constant):
        new.value = ast.Constant(None)
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


def nodes(node: ast.AST, began: int = 0) -> Iterator[tuple[int, ast.AST]]:
    """(first line of its statement, the node) for all below a node."""
    for below in ast.iter_child_nodes(node):
        at = below.lineno if isinstance(below, ast.stmt | ast.excepthandler) else began
        yield at, below
        yield from nodes(below, at)


def breaks(path: Path) -> Iterator[tuple[range, str, str]]:
    """(lines, what was changed, the whole file with it) for every place of a file."""
    text = path.read_text()
    lines = text.encode().splitlines(keepends=True)
    tree = ast.parse(text)
    kept = unbroken(tree)
    for began, node in nodes(tree):
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
        what = f"{' '.join(ast.unparse(node).split())[:80]} -> {' '.join(put.split())[:80]}"
        yield range(began, node.lineno + 1), what, whole  # type: ignore[attr-defined]


def part_of(name: str) -> tuple[list[str], list[str]]:
    """What is broken, and its tests: of a room, or of a file or a line in one, such as `store/journal.py:349`."""
    file = name.partition(":")[0]
    for room, (paths, tests) in ROOMS.items():
        if name == room:
            return paths, tests
        inside = any(Path(path) in (Path(file), *Path(file).parents) for path in paths)
        if inside and (ROOT / "src" / "odograph" / file).is_file():
            return [name], tests
    raise argparse.ArgumentTypeError(
        f"{name!r} is neither a room ({', '.join(ROOMS)}) nor a file or line in one, such as store/journal.py:349"
    )


def spread(files: list[Path], chance: random.Random) -> list[tuple[Path, range, str, str]]:
    """All places, in an order in which each file comes once before one comes again."""
    each = [[(file, *one) for one in breaks(file)] for file in files]
    for places in each:
        chance.shuffle(places)
    chance.shuffle(each)
    return [one for one in chain.from_iterable(zip_longest(*each)) if one]


class Tests:
    """The tests of some parts, run on a copy of the source."""

    def __init__(self, folder: Path, tests: list[str]) -> None:
        self._folder = folder
        self._env = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        config, data, times = folder / "coverage.ini", folder / ".coverage", folder / "times.xml"
        if not times.exists():
            config.write_text(
                f"[run]\ndata_file={data}\nbranch=true\nparallel=true\nsource={folder / 'src'}\nconcurrency=thread,multiprocessing\n"
                "dynamic_context=test_function\ncontext=${PYTEST_CURRENT_TEST-}\npatch=_exit\nsigterm=true\n"
            )
            self._env["COVERAGE_PROCESS_START"] = str(config)  # for the processes that tests start, too
            begins = [sys.executable, "-c", "import sys; sys.exit('coverage' not in sys.modules)"]
            if subprocess.run(begins, env=self._env, cwd=folder, check=False).returncode:
                sys.exit(
                    f"coverage does not begin with {sys.executable}: its .pth file is missing there; use the Python of `make`"
                )
            self._run(tests, f"--junitxml={times}.part", "--maxfail=20", "--timeout=600")
            del self._env["COVERAGE_PROCESS_START"]
            whole = Coverage(config_file=str(config))
            whole.combine()
            whole.save()
            Path(f"{times}.part").rename(times)
        self._reached = CoverageData(str(data))
        self._reached.read()
        if not self._reached.measured_files():
            sys.exit(f"the tests reach nothing in {folder}: they run another copy of the source")
        self._times: dict[str, float] = {}
        failed = set()
        for case in ElementTree.parse(times).iter("testcase"):
            name = self._name(f"{case.get('classname')}.{case.get('name')}")
            self._times[name] = self._times.get(name, 0.0) + float(case.get("time") or 0)
            if case.find("failure") is not None or case.find("error") is not None:
                failed.add(name)
        failed = {name for name in failed if self._run([name]) != 0}  # alone: one may fail by luck, under load
        if failed:
            print(f"left out, as they fail with the source as it is: {', '.join(sorted(failed))}", flush=True)
        self._times = {name: took for name, took in self._times.items() if name not in failed}
        self._loaded(tests)

    @staticmethod
    def _name(context: str) -> str:
        """How pytest calls a test: coverage and its report call it `tests.part.test_a.test_b`, processes `tests/part/test_a.py::test_b[1] (call)`."""
        context = context.rpartition("|")[2].partition("[")[0].partition(" ")[0]
        if "::" in context:
            return context
        file, _, name = context.rpartition(".")
        return f"{file.replace('.', '/')}.py::{name}"

    def _run(self, tests: list[str], *more: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *_ARGUMENTS, *more, *tests],
            cwd=self._folder,
            env=self._env,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode

    def _loaded(self, tests: list[str]) -> None:
        """Imports here what the tests import of others: each break's tests run in a fork, which need not import it again."""
        code = "import sys, pytest; pytest.main(sys.argv[1:]); print('\\n', *sys.modules)"
        command = [sys.executable, "-c", code, "--collect-only", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=self._folder, env=self._env, capture_output=True, text=True, check=True)
        for name in done.stdout.splitlines()[-1].split():
            if name.partition(".")[0] not in ("odograph", "tests", "conftest", "__main__", "__mp_main__"):
                with suppress(Exception):
                    importlib.import_module(name)

    def _forked(self, tests: list[str], limit: float, *more: str) -> int | None:
        """How pytest ended; None where it did not within the limit."""
        child = os.fork()
        if not child:
            os.setsid()
            os.chdir(self._folder)
            os.environ.update(self._env)
            sys.path.insert(0, str(self._folder / "src"))
            sys.dont_write_bytecode = True
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(nowhere, fd)
            code = 1
            try:
                code = int(pytest.main([*_ARGUMENTS, *more, *tests]))
            finally:
                os._exit(code)
        until = time.monotonic() + limit
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def near(self, file: Path, lines: range) -> list[str]:
        """The tests that reach these lines, the quickest first; for what runs at an import alone, those that reach the file."""
        of = self._reached.contexts_by_lineno(str(file))
        if not any(of.get(line) for line in lines):
            return []
        named = {self._name(one) for line in lines for one in of.get(line, ())} & self._times.keys()
        named = named or {self._name(one) for every in of.values() for one in every} & self._times.keys()
        return sorted(named, key=lambda name: self._times[name])

    def outcome(self, file: Path, lines: range, seconds: float) -> str:
        """What the tests that reach these lines say of a break there; the tests took as many seconds together without it."""
        near = self.near(file, lines)
        if not near:
            return "reached by no test"
        together = accumulate(self._times[name] for name in near)
        quick = [name for name, so_far in zip(near, together, strict=True) if so_far < seconds] or near[:1]
        ended = self._forked(quick, 60 + 10 * sum(self._times[name] for name in quick), f"--timeout={_TEST}")
        if ended in _UNREADABLE:
            return "unreadable"
        survived = "survived" if len(quick) == len(near) else f"survived the quickest {len(quick)} of {len(near)} tests"
        return {0: survived, 1: "noticed", None: "never ended"}.get(ended, f"died of {ended}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", type=part_of, help=f"a room, or store/journal.py:349 or the like (default: {', '.join(ROOMS)})"
    )
    parser.add_argument("--most", type=int, default=30, help="places in each part (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="which places are chosen (default: 0)")
    parser.add_argument("--seconds", type=float, default=20, help="of tests, the quickest first, for each place (default: 20)")
    parser.add_argument(
        "--keep", type=Path, help="folder for the copy and what its tests reach; the next run with it starts from there"
    )
    args = parser.parse_args()
    survived = 0
    parts = args.parts or list(ROOMS.values())
    with tempfile.TemporaryDirectory() as name:
        folder = (args.keep or Path(name)).absolute()
        copied = folder / "src"
        if not copied.exists():
            for part in ("src", "tests", "docs"):  # the working tree stays as it is
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            for part in ("pyproject.toml", "README.md"):
                shutil.copy(ROOT / part, folder / part)
        run = Tests(folder, sorted({test for _, tests in parts for test in tests}))
        for paths, _ in parts:
            line = paths[0].partition(":")[2]
            found = [copied / "odograph" / path.partition(":")[0] for path in paths]
            files = sorted(file for path in found for file in ([path] if path.is_file() else path.rglob("*.py")))
            every = [one for one in spread(files, random.Random(args.seed)) if line in ("", str(one[1][-1]))]
            tried = noticed = 0
            for file, lines, what, whole in every:
                if tried >= args.most:
                    break
                before = file.read_text()
                try:
                    file.write_text(whole)
                    said = run.outcome(file, lines, args.seconds)
                finally:
                    file.write_text(before)
                if said == "unreadable":
                    continue
                tried += 1
                noticed += said == "noticed" or said.startswith(("never", "died"))
                if said != "noticed":
                    print(f"{said}: {file.relative_to(copied)}:{lines[-1]}: {what}", flush=True)
            survived += tried - noticed
            print(f"{', '.join(paths)}: {noticed} of {tried} breaks were noticed, of {len(every)} possible", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
