"""The version of a function that nobody declared: a fingerprint of its syntax, of what it closes over and of what it names.

Comments and layout don't count, and neither does the Python that scores, or where the module lies.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any


class Versioned:
    """What has a version of its own, and says itself what tells it from another of its name."""

    def fingerprint(self, depth: int, seen: tuple[Any, ...]) -> Any:
        """As the function `fingerprint`."""
        raise NotImplementedError


def fingerprint(value: Any, depth: int, seen: tuple[Any, ...] = ()) -> Any:
    """What tells a function or a parameter from another of the same name: syntax, defaults, what it closes over and names."""
    if depth > 8:
        return "..."
    if isinstance(value, Versioned):
        return value.fingerprint(depth, seen)
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(k): fingerprint(v, depth + 1, seen) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [fingerprint(v, depth + 1, seen) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(fingerprint(v, depth + 1, seen)) for v in value)
    if isinstance(value, (bytes, PurePath, date, Decimal, re.Pattern, Enum)):
        return repr(value)
    if isinstance(value, partial):
        return [fingerprint(part, depth + 1, seen) for part in (value.func, value.args, value.keywords)]
    code = getattr(value, "__code__", None)
    if code is not None:
        if value in seen:  # it calls itself, or its caller
            return value.__qualname__
        seen = (*seen, value)
        cells = {}
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=False):
            try:
                cells[name] = fingerprint(cell.cell_contents, depth + 1, seen)
            except ValueError:  # not filled yet
                cells[name] = None
        defaults = fingerprint([value.__defaults__ or (), value.__kwdefaults__ or {}], depth + 1, seen)
        return [_tree(value, code), defaults, cells, _named_by(value, code, depth, seen)]
    kind = value if isinstance(value, type) else type(value)
    plain = {k: v for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, (str, int, float, bool))}
    tree = _tree(kind, None) if not depth or (kind is value and seen) else ""
    return [kind.__qualname__, tree, {} if kind is value else plain]


def _named_by(fn: Any, code: Any, depth: int, seen: tuple[Any, ...]) -> dict[str, Any]:
    """The constants of the function's module, and the functions and classes that are written there, that its code names."""
    names: set[str] = set()
    codes = [code]
    while codes:
        one = codes.pop()
        names.update(one.co_names)
        codes += [c for c in one.co_consts if isinstance(c, CodeType)]
    home = os.path.dirname(code.co_filename)
    names -= {"__name__", "__file__", "__qualname__", "__module__"}  # where the module lies changes nothing
    there = {name: fn.__globals__[name] for name in names & fn.__globals__.keys()}
    for name, module in list(there.items()):
        if isinstance(module, ModuleType) and _is_beside(home, module):
            there |= {f"{name}.{n}": vars(module)[n] for n in names & vars(module).keys()}
    found: dict[str, Any] = {}

    def is_own(of: Any) -> bool:
        return bool(of.__module__ == fn.__module__) or _is_beside(home, sys.modules.get(of.__module__))

    for name, value in sorted(there.items()):
        helper = isinstance(value, (FunctionType, type, Versioned)) and is_own(value)
        if helper or _is_constant(name.rpartition(".")[2], value):
            found[name] = fingerprint(value, depth + 1, seen)
        elif is_own(type(value)):  # an object of the user's own class: what it does, and not what it holds, which may be a cache
            found[name] = fingerprint(type(value), depth + 1, seen)
    return found


def _is_beside(home: str, module: Any) -> bool:
    """Whether a module is the user's own: its file is in the folder of the function's, or below."""
    file = getattr(module, "__file__", None)
    return bool(home) and isinstance(file, str) and file.startswith(home + os.sep) and "site-packages" not in file[len(home) :]


def _is_constant(name: str, value: Any, depth: int = 0) -> bool:
    """Whether a value is a module's constant. A list or a mapping is one only by its name: others may be caches."""
    if isinstance(value, (str, int, float, bool, bytes, PurePath, date, Decimal, re.Pattern, Enum, type(None))):
        return True
    if depth > 4 or not (name.isupper() or isinstance(value, (tuple, frozenset))):
        return False
    if isinstance(value, Mapping):
        return all(_is_constant(name, v, depth + 1) for v in value.values())
    return isinstance(value, (list, tuple, set, frozenset)) and all(_is_constant(name, v, depth + 1) for v in value)


def _tree(of: Any, code: Any) -> str:
    """The syntax tree of a function or class, without its docstring; where its source can't be had, its bytecode."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(of)).strip())
        body = tree.body[0]
        if isinstance(body, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if len(body.body) > 1 and ast.get_docstring(body, clean=False) is not None:
                del body.body[0]
            body.decorator_list = []
        text = _dumped(body)
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):
        body, text = None, ""
    if code is None or (text and code.co_name != "<lambda>"):
        return text
    # the source of a lambda is the statement that it stands in, and several can stand there
    inside = [n for n in ast.walk(body) if isinstance(n, ast.Lambda)] if body is not None else []
    if len(inside) == 1:
        return _dumped(inside[0])
    return f"{_bytecode(code)}"


def _dumped(tree: ast.AST) -> str:
    """A syntax tree as Python 3.11 dumps it. Python 3.12 adds a field and empty parts of f-strings, and 3.13 leaves empty fields
    out: the version of a function must not change with the Python that scores."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            node.values = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
    if sys.version_info >= (3, 13):
        return ast.dump(tree, show_empty=True).replace(", type_params=[]", "")
    return ast.dump(tree).replace(", type_params=[]", "")


def _bytecode(code: Any) -> list[Any]:
    consts = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [hashlib.sha256(code.co_code).hexdigest(), consts, code.co_names]
