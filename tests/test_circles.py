"""Files import each other in no circle: not late, not for a type, and not by way of a package's `__init__`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


def modules(source: Path) -> dict[str, Path]:
    """Dotted name -> file; a package is its `__init__`."""
    found = {}
    for file in source.rglob("*.py"):
        parts = file.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that a file's import statements run, wherever in the file they stand, and those that it imports by a name in quotes.

    `import a.b.c` runs `a` and `a.b` first; where these are packages of the importing file itself they run already, and count
    only where a name is taken from them.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    own = {name, *(package.rsplit(".", n)[0] for n in range(package.count(".") + 1))}
    for node in ast.walk(ast.parse(file.read_text())):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}" if base else above
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if whole in known:
                    targets.append(whole)
                elif base in known:
                    yield base  # a name that is in the module itself, be it the file's own package
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")).endswith("import_module"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                targets = [resolve_name(named.value, package)]
        for target in targets:
            if target in known:
                yield target
        for target in [*targets, *([base] if isinstance(node, ast.ImportFrom) else [])]:
            for n in range(1, target.count(".") + 1):
                parent = target.rsplit(".", n)[0]
                if parent in known and parent not in own:
                    yield parent


def circles(source: Path) -> list[list[str]]:
    """Groups of modules that import each other in a loop (Tarjan's strongly connected components)."""
    known = modules(source)
    graph = {name: sorted(set(imports(name, file, known)) - {name}) for name, file in known.items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def test_no_file_is_in_a_circle() -> None:
    """What a file needs can be read without the file: from any module down there is no way back to it."""
    assert circles(SOURCE) == []


BARE = {"p/__init__.py": "", "p/a.py": "", "p/b.py": "from . import a\n", "p/q/__init__.py": "", "p/q/c.py": "from .. import b\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"p/a.py": "def f():\n    from .b import x\n"}, [["p.a", "p.b"]]),  # late
        ({"p/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.b\n"}, [["p.a", "p.b"]]),  # for a type
        ({"p/a.py": "from importlib import import_module\nb = import_module('.b', __package__)\n"}, [["p.a", "p.b"]]),  # by name
        # by an `__init__` that runs first
        ({"p/q/__init__.py": "from .c import y\n", "p/b.py": "import p.q.d\n", "p/q/d.py": ""}, [["p.b", "p.q", "p.q.c"]]),
        # a name from one's own package
        ({"p/q/__init__.py": "from .c import y\nz = 1\n", "p/q/c.py": "from . import z\n"}, [["p.q", "p.q.c"]]),
        # a neighbour by way of one's own package, which runs already
        ({"p/q/__init__.py": "from .c import y\n", "p/q/c.py": "from . import d\nimport p.q.d\n", "p/q/d.py": ""}, []),
    ],
)
def test_circles_are_seen_wherever_they_hide(files: dict[str, str], expected: list[list[str]], tmp_path: Path) -> None:
    """Late, for a type, by `__init__`, and from one's own package: each is a circle; a way through one's own parents is none."""
    for name, text in {**BARE, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert circles(tmp_path) == expected
