"""Breaks the source one place at a time and lists the breaks that no test notices: `python -m tests.mutate store --most 40`.

A first run of the tests tells which test reaches which line, in processes that the test starts, too. A break is tried with the tests that
reach its line, first those that are quick, reach what few tests reach close by, and have noticed breaks of that file. The places are spread over the files of a part, in an order that the seed gives.
Breaks that `tests/judged/` lists are left out: a person has judged that they change nothing that matters.

The tests are collected once. A break inside of a function is put into the loaded function of a fork, which then runs its tests. A break that
only an import shows, or that survived and is reached by an import, is tried with all modules imported anew.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import gc
import inspect
import os
import py_compile
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path
from types import CodeType, FunctionType
from xml.etree import ElementTree

import pytest
from coverage import Coverage, CoverageData
from hypothesis import Phase, settings

ROOT = Path(__file__).parent.parent
#: What asks the store for lists and figures.
_ASKING = [
    "tests/viewer/test_sharing.py",
    "tests/viewer/test_server.py",
    "tests/statistics/test_statistics.py",
    "tests/statistics/test_columns.py",
    "tests/rewards/test_score.py",
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
    "store": (
        ["store"],
        ["tests/store", *_ASKING, "tests/capture/test_record.py", "tests/capture/test_ends.py", *_PACKING, *_SECRETS],
    ),
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
    "rows": (["training/rows.py"], ["tests/lineage", *_ROWS]),
}
#: Tests that take many seconds and would find little more.
_QUICK = "not (hostile or 50_random_moments or 2000_calls or 1000_calls or window_that_slides or linear or bounded or costs_some_copies)"
#: How many lines close by tell which tests are about a line, and what a test counts that reaches nothing there that is rare.
_ABOUT, _COMMON = 40, 0.02
#: Seconds that one test may take with a break.
_TEST = 100
_ARGUMENTS = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-k", _QUICK]
#: How pytest ends where the source can't be imported any more: such a break says nothing of the tests.
_UNREADABLE = (2, 4)
#: Whole numbers from here on, and fractions, are sizes and limits that somebody chose: a little more of them is no other behaviour.
_TUNED = 100
_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tells coverage which test runs. It would take a function of hypothesis, `test_function`, for the test that hypothesis runs."""
    measured = Coverage.current()
    assert measured is not None
    measured.switch_context(item.nodeid)
    try:
        yield
    finally:
        measured.switch_context("")


def _is_tuned(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return (type(value) is int and value >= _TUNED) or (type(value) is float and not value.is_integer())


def changed(node: ast.AST) -> ast.AST | None:
    """The node, broken; None where there is nothing to break."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in _SWAPS:
        if isinstance(new.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE) and _is_tuned(new.comparators[0]):
            return None
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
    """What is not broken: types, which nothing runs, what a debugger shows, how far up a warning points, and what only guards."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node if node.name == "__repr__" else node.returns)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts.append(node)
        elif isinstance(node, ast.keyword) and node.arg in ("stacklevel", "frozen", "kw_only", "strict", "total"):
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
    """(lines, these lines before and after, the whole file with the break) for every place of a file. No other line moves."""
    text = path.read_text()
    lines = text.encode().splitlines(keepends=True)
    tree = ast.parse(text)
    kept = unbroken(tree)
    for began, node in nodes(tree):
        new = changed(node) if hasattr(node, "lineno") and node not in kept else None
        if new is None:
            continue
        first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
        start = sum(map(len, lines[: first - 1])) + node.col_offset  # type: ignore[attr-defined]
        stop = sum(map(len, lines[: last - 1])) + node.end_col_offset  # type: ignore[attr-defined]
        put = ast.unparse(new)
        put = (put if isinstance(new, ast.stmt) else f"({put})") + "\n" * (last - first - put.count("\n"))
        whole = (text.encode()[:start] + put.encode() + text.encode()[stop:]).decode()
        try:
            compile(whole, str(path), "exec", dont_inherit=True)
        except SyntaxError:  # inside of an f-string, say
            continue
        seen = (" ".join(" ".join(of.splitlines()[first - 1 : last]).split()) for of in (text, whole))
        yield range(began, first + 1), "".join(f"\n  {sign} {line}" for sign, line in zip("-+", seen, strict=True)), whole


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all inside of it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from codes(one)


def new_codes(file: Path, before: str, after: str) -> dict[CodeType, CodeType] | None:
    """The new code for each function of a file that a break changes; None where an import runs what is changed."""
    old, new = (list(codes(compile(text, str(file), "exec", dont_inherit=True))) for text in (before, after))
    if len(old) != len(new):
        return None
    pairs = {one: other for one, other in zip(old, new, strict=True) if one != other}

    def itself(code: CodeType) -> CodeType:
        return code.replace(co_linetable=b"", co_consts=tuple(one for one in code.co_consts if not isinstance(one, CodeType)))

    functions = {one: other for one, other in pairs.items() if one.co_flags & inspect.CO_OPTIMIZED}
    imported = pairs.keys() - functions.keys()  # bodies of the module and of its classes
    return None if any(itself(one) != itself(pairs[one]) for one in imported) else functions


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


def judged() -> set[tuple[str, str]]:
    """(file, its lines before and after) of the breaks that the lists judge. Each block has a line of the file, of `-`, of `+` and
    of `=` why the break does not matter."""
    lists = (ROOT / "tests" / "judged").glob("*.txt")
    blocks = [block.splitlines() for one in lists for block in one.read_text().strip().split("\n\n")]
    return {(file, f"\n  {before}\n  {after}") for file, before, after, _ in blocks}


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
        self._env = {**os.environ, "PYTHONPATH": str(folder / "src")}
        config, data, times = folder / "coverage.ini", folder / ".coverage", folder / "times.xml"
        if not times.exists():
            # compiled files that are told by their source's bytes: no break is taken for what was there a moment ago
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(folder / "src", quiet=1, invalidation_mode=mode)
            config.write_text(
                f"[run]\ndata_file={data}\nbranch=true\nparallel=true\nsource={folder / 'src'}\nconcurrency=thread,multiprocessing\n"
                "context=${PYTEST_CURRENT_TEST-}\npatch=_exit\nsigterm=true\n"
            )
            self._env["COVERAGE_PROCESS_START"] = str(config)  # for the processes that tests start, too
            begins = [sys.executable, "-c", "import sys; sys.exit('coverage' not in sys.modules)"]
            if subprocess.run(begins, env=self._env, cwd=folder, check=False).returncode:
                sys.exit(
                    f"coverage does not begin with {sys.executable}: its .pth file is missing there; use the Python of `make`"
                )
            self._run(tests, "-p", "tests.mutate", f"--junitxml={times}.part", "--maxfail=20", "--timeout=600")
            del self._env["COVERAGE_PROCESS_START"]
            whole = Coverage(config_file=str(config))
            whole.combine()
            whole.save()
            Path(f"{times}.part").rename(times)
        self._env["PYTHONDONTWRITEBYTECODE"] = "1"
        self._reached = CoverageData(str(data))
        self._reached.read()
        if not self._reached.measured_files():
            sys.exit(f"the tests reach nothing in {folder}: they run another copy of the source")
        self._contexts = cache(self._reached.contexts_by_lineno)
        self._pipe: int | None = None
        #: How many breaks of a file a test noticed.
        self._noticed: Counter[tuple[Path, str]] = Counter()
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

    @staticmethod
    def _name(context: str) -> str:
        """How pytest calls a test: its report calls it `tests.part.test_a.test_b`, coverage `tests/part/test_a.py::test_b[1] (call)`."""
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

    def _arguments(self, *more: str) -> list[str]:
        """Of pytest, in this process."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("odograph", "tests", "conftest")]:
            del sys.modules[name]  # they are loaded from the copy, as it is now
        # the first example that fails says enough: hypothesis looks for a smaller one for minutes
        settings.register_profile("first", deadline=None, phases=[Phase.explicit, Phase.generate])
        return [*_ARGUMENTS, "--hypothesis-profile=first", f"--timeout={_TEST}", f"--basetemp={self._folder / 'tmp'}", *more]

    def collected(self, tests: list[str], then: Callable[[], None]) -> None:
        """Calls a function in a session of pytest that has loaded these tests and what they import, and has run none."""
        os.chdir(self._folder)
        os.environ.update(self._env)
        sys.dont_write_bytecode = True
        pytest.main([*self._arguments(), *tests], plugins=[_Collected(self, then), _Told(self.told)])

    def told(self, nodeid: str) -> None:
        """A test failed, in a fork."""
        if self._pipe is not None:
            os.write(self._pipe, self._name(nodeid).encode())

    def loaded(self, session: pytest.Session) -> None:
        """Takes the tests of a session, and the functions that they can run."""
        self._items: dict[str, list[pytest.Item]] = {}
        for item in session.items:
            if (name := self._name(item.nodeid)) in self._times:
                self._items.setdefault(name, []).append(item)
        self._given = {
            name for name, of in self._items.items() if getattr(getattr(of[0], "obj", None), "is_hypothesis_test", False)
        }
        self._functions: dict[CodeType, list[FunctionType]] = {}
        inside = str(self._folder / "src")
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(inside):
                self._functions.setdefault(one.__code__, []).append(one)
        gc.freeze()  # forks share what is there

    def _forked(self, tests: list[str], limit: float, put: dict[CodeType, CodeType] | None) -> tuple[int | None, str]:
        """How pytest ended with this new code, or with the files as they are, and the test that failed; None where it did not
        end within the limit."""
        told, tells = os.pipe()
        child = os.fork()
        if not child:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._pipe = tells
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(nowhere, fd)
            code: int | None = 1
            try:
                code = self._with(tests, put) if put else None
                if code is None:
                    code = int(pytest.main([*self._arguments("-x"), *tests], plugins=[_Told(self.told)]))
            finally:
                os._exit(code or 0)
        os.close(tells)
        until, ended = time.monotonic() + limit, None
        try:
            while ended is None and time.monotonic() < until:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended = os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):  # a test that failed may have left a server, which nobody ends
                os.killpg(child, signal.SIGKILL)
            if ended is None:
                os.waitpid(child, 0)
        with open(told, "rb") as file:
            os.set_blocking(told, False)  # what a test began may have the other end
            return ended, (file.read() or b"").decode()

    def _with(self, tests: list[str], put: dict[CodeType, CodeType]) -> int | None:
        """1 where a test fails with the new code, 0 where none does, None where the new code can't be put in place."""
        for old, new in put.items():
            for function in self._functions.get(old, ()):
                try:
                    function.__code__ = new
                except ValueError:  # it has other variables from outside
                    return None
        items = [item for name in tests for item in self._items[name]]
        for item, following in zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return 1
        return 0

    def near(self, file: Path, lines: range, imported: bool) -> list[str]:
        """The tests that may notice what is done to these lines, the likeliest to notice soon first: those that reach the lines, and
        before others those that reach lines close by which few tests reach, or bear the file's name. Behind them come those that reach the file, where a fixture
        reaches the lines, and all others, where an import runs them: nothing tells for which tests."""
        of = self._contexts(str(file))
        reached = {one for line in lines for one in of.get(line, ())}
        groups = [reached]
        if "" in reached:
            groups.append({one for every in of.values() for one in every})
        found = [{self._name(one) for one in group} & self._items.keys() for group in groups]
        if any(one.startswith("hypothesis.") for one in reached):  # it calls all of its tests by one function
            found[0] |= self._given
        if "" in reached and imported:
            found.append(set(self._items))
        rank = {name: n for n, names in reversed(list(enumerate(found))) for name in names}
        rare: Counter[str] = Counter()
        for line, contexts in of.items():
            if abs(line - lines[-1]) <= _ABOUT:
                names = {self._name(one) for one in contexts} & rank.keys()
                rare.update(dict.fromkeys(names, 1 / len(names)) if names else {})
        rare.update(name for name in rank if f"/test_{file.stem}.py::" in name)

        def after(name: str) -> float:
            return (self._times[name] + rank[name]) / (1 + self._noticed[file, name]) / (_COMMON + rare[name])

        return sorted(rank, key=after)

    def outcome(self, file: Path, lines: range, before: str, after: str, seconds: float) -> str:
        """What the tests say of a break in these lines; the tests took as many seconds together without it."""
        put = new_codes(file, before, after)
        if put and not any(one in self._functions for one in put):  # an import ran them, as a comprehension, and they are gone
            put = None
        imported = any("" in self._contexts(str(file)).get(line, ()) for line in lines)
        near = self.near(file, lines, put is None or imported)
        if not near:
            return "reached by no test"
        quick, left = [], seconds
        for name in near:
            if not quick or self._times[name] < left:
                left -= self._times[name]
                quick.append(name)
        limit = 60 + 10 * sum(self._times[name] for name in quick)
        ended, failed = self._forked(quick, limit, put)
        if ended == 0 and put and imported:  # what an import computed is as it was
            ended, failed = self._forked(quick, limit, None)
        self._noticed[file, failed] += 1
        if ended in _UNREADABLE:
            return "unreadable"
        survived = "survived" if len(quick) == len(near) else f"survived {len(quick)} of {len(near)} tests"
        return {0: survived, 1: "noticed", None: "never ended"}.get(ended, f"died of {ended}")


class _Told:
    """Tells of the tests that fail."""

    def __init__(self, then: Callable[[str], None]) -> None:
        self._then = then

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._then(report.nodeid)


class _Collected:
    """Stands in the place of pytest's own loop over the tests."""

    def __init__(self, tests: Tests, then: Callable[[], None]) -> None:
        self._tests, self._then = tests, then

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return False  # pytest says what could not be collected
        self._tests.loaded(session)
        self._then()
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", type=part_of, help=f"a room, or store/journal.py:349 or the like (default: {', '.join(ROOMS)})"
    )
    parser.add_argument("--most", type=int, default=30, help="places in each part (default: 30)")
    parser.add_argument("--skip", type=int, default=0, help="places that an earlier run with this seed has tried (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="the order of the places (default: 0)")
    parser.add_argument("--seconds", type=float, default=20, help="of tests, the quickest first, for each place (default: 20)")
    parser.add_argument(
        "--keep", type=Path, help="folder for the copy and what its tests reach; the next run with it starts from there"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with the break undone
    survived = 0
    parts = args.parts or list(ROOMS.values())
    with tempfile.TemporaryDirectory() as name:
        folder = (args.keep or Path(name)).absolute()
        copied = folder / "src"
        whole = folder / "whole"
        if not whole.exists():
            for part in ("tests", "docs"):
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            for part in ("pyproject.toml", "README.md"):
                shutil.copy(ROOT / part, folder / part)
            shutil.copytree(ROOT / "src", whole, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(whole, copied, dirs_exist_ok=True)  # a run that was killed left its break there
        tests = sorted({test for _, tests in parts for test in tests})
        run = Tests(folder, tests)
        left_out = judged()

        def rounds() -> None:
            nonlocal survived
            for paths, _ in parts:
                line = paths[0].partition(":")[2]
                found = [copied / "odograph" / path.partition(":")[0] for path in paths]
                files = sorted(file for path in found for file in ([path] if path.is_file() else path.rglob("*.py")))
                every = [one for one in spread(files, random.Random(args.seed)) if line in ("", str(one[1][-1]))]
                tried = noticed = known = 0
                for file, lines, what, broken in every[args.skip : args.skip + args.most]:
                    if (str(file.relative_to(copied / "odograph")), what) in left_out:
                        known += 1
                        continue
                    before = file.read_text()
                    try:
                        file.write_text(broken)
                        said = run.outcome(file, lines, before, broken, args.seconds)
                    finally:
                        file.write_text(before)
                    if said == "unreadable":
                        continue
                    tried += 1
                    if not tried % 50:
                        print(f"{tried} tried", flush=True)
                    noticed += said == "noticed" or said.startswith(("never", "died"))
                    if said != "noticed":
                        print(f"{said}: {file.relative_to(copied)}:{lines[-1]}{what}", flush=True)
                survived += tried - noticed
                at = f"{known} judged before, places {args.skip} to {min(args.skip + args.most, len(every))} of {len(every)} with seed {args.seed}"
                print(f"{', '.join(paths)}: {noticed} of {tried} breaks were noticed; {at}", flush=True)

        run.collected(tests, rounds)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
