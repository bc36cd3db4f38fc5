"""Breaks the source one place at a time and lists the breaks that no test notices: `python -m tests.mutate store --most 40`."""

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
from collections.abc import Iterator
from pathlib import Path

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
    elif isinstance(new, ast.Constant) and type(new.value) in (bool, int):
        new.value = not new.value if type(new.value) is bool else new.value + 1
    elif isinstance(new, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue) and not (
        isinstance(new, ast.Expr) and isinstance(new.value, ast.Constant)
    ):
        return ast.Pass()
    else:
        return None
    return new


def breaks(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, what was changed, the whole file with it) for every place of a file."""
    text = path.read_text()
    lines = text.encode().splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        new = changed(node) if hasattr(node, "lineno") else None
        if new is None or "from __future__" in ast.unparse(node):
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", help=f"what to break (default: all of {', '.join(ROOMS)})")
    parser.add_argument("--most", type=int, default=30, help="places in each room (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="which places are chosen (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=120, help="limit of one test run; beyond it, the break was noticed (default: 120)"
    )
    args = parser.parse_args()
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(shutil.copytree(ROOT / "src", Path(folder) / "src"))  # the working tree stays as it is
        for part in ("tests", "docs", "pyproject.toml", "README.md"):
            (Path(folder) / part).symlink_to(ROOT / part)
        for room in args.rooms or ROOMS:
            place, tests = ROOMS[room]
            found = copied / "odograph" / place
            files = sorted(found.rglob("*.py")) if found.is_dir() else [found]
            every = [(file, *one) for file in files for one in breaks(file)]
            chosen = random.Random(args.seed).sample(every, min(args.most, len(every)))
            noticed = 0
            for file, line, what, whole in [(files[0], 0, "", files[0].read_text()), *chosen]:  # first as it is: all must pass
                before = file.read_text()
                file.write_text(whole)
                command = [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-x",
                    "-q",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:xdist",
                    "-m",
                    "not slow",
                    "-k",
                    _QUICK,
                    *tests,
                ]
                env = {**os.environ, "PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}
                try:
                    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=args.seconds, check=False)
                    alive = done.returncode == 0
                except subprocess.TimeoutExpired:
                    alive = False
                file.write_text(before)
                if not line:
                    if not alive:
                        sys.exit(f"the tests of {room} fail, or take more than {args.seconds:g} s, with the source as it is")
                    continue
                noticed += not alive
                if alive:
                    print(f"survived: {file.relative_to(copied)}:{line}: {what}", flush=True)
            survived += len(chosen) - noticed
            print(f"{room}: {noticed} of {len(chosen)} breaks were noticed, of {len(every)} possible", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
