"""A name, `package:object` or `file.py[:object]` -> the object it names. Knows nothing of what the objects do.

A `Door` is where one kind of extension comes in, built-in or not. Importers, exporters, checks and dialects have a door each.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import locks
from .errors import InvalidInput, NotFound, UnknownName, described

#: Held while built-in extensions are imported, and while the process forks: a child would wait for ever for an import that
#: another thread of its parent had begun.
_importing = locks.for_forks()


def available(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def load(name: str, group: str | None = None) -> Any:
    """The object of an entry point's name, of `package:object`, or of a Python file (the module, or `file.py:object`).

    None for a plain name that no entry point of the group has. Raises NotFound for a file or module that does not exist,
    UnknownName for an object that the module lacks, and InvalidInput for code that can't be loaded.
    """
    if group is not None:
        from importlib import metadata

        for point in metadata.entry_points(group=group, name=name):
            try:
                return point.load()
            except (Exception, SystemExit) as error:
                raise InvalidInput(
                    f"{name!r}, which is {point.value} by an entry point, can't be loaded: {_why(error)}"
                ) from error
    where, _, what = name.partition(":")
    if where.endswith(".py"):
        module = _module_of_file(Path(where))
    elif what:
        try:
            module = importlib.import_module(where)
        except (ImportError, TypeError) as error:  # TypeError: a name that begins with a dot
            raise NotFound(f"no module {where!r}: {error}") from None
        except (Exception, SystemExit) as error:
            raise InvalidInput(f"{where!r} can't be loaded: {_why(error)}") from error
    else:
        return None
    if not what:
        return module
    try:
        return getattr(module, what)
    except AttributeError:
        public = ", ".join(n for n in vars(module) if not n.startswith("_"))
        raise UnknownName(f"{where} has no {what!r}; it has: {public}") from None


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise NotFound(f"no file {str(path)!r}")
    known_as = (
        f"odograph_plugin_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:8]}"  # two files may have one name
    )
    spec = importlib.util.spec_from_file_location(known_as, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{str(path)!r} can't be loaded: {_why(error)}") from error
    return module


class Door:
    """The door of one kind of extension. An extension is a module of our own `package`, an entry point of `group`, or any other
    object that `load` finds. An object without all the `parts` is no extension.
    """

    def __init__(self, kind: str, group: str, package: str, parts: tuple[str, ...] = ()) -> None:
        self._kind = kind
        self._group = group
        self._package = package
        self._parts = parts
        self._known: dict[str, Any] | None = None
        self._offered: list[str] | None = None

    @property
    def _builtin(self) -> dict[str, Any]:
        if self._known is None:
            with _importing:
                self._known = self._imported()
        return self._known

    def _imported(self) -> dict[str, Any]:
        import pkgutil

        folder = importlib.import_module(self._package).__path__
        modules = [importlib.import_module(f"{self._package}.{found.name}") for found in pkgutil.iter_modules(folder)]
        whole = [m for m in modules if all(hasattr(m, part) for part in self._parts)]  # others are helpers of these
        return {getattr(m, "NAME", m.__name__.rpartition(".")[2]): m for m in whole}

    def builtin(self) -> list[Any]:
        """The built-in extensions, in the order of the names of their files."""
        return list(self._builtin.values())

    @property
    def offered(self) -> list[str]:
        """The names that installed packages offer. Asked once a process, because the question reads the data of all packages."""
        if self._offered is None:
            with _importing:
                from importlib import metadata

                self._offered = sorted(point.name for point in metadata.entry_points(group=self._group))
        return self._offered

    def names(self) -> list[str]:
        """The names of the built-in extensions and of those of installed packages."""
        return [*self._builtin, *self.offered]

    def find(self, name: str) -> Any:
        """The extension of a name. Raises NotFound, UnknownName, or InvalidInput for one that lacks a part."""
        if name in self._builtin:
            return self._builtin[name]
        found = load(name, self._group)
        if found is None:
            there = ", ".join(self.names()) or "none"
            raise UnknownName(f"no {self._kind} named {name!r}; there are: {there}; or name a file.py or package:object")
        lacks = [part for part in self._parts if not hasattr(found, part)]
        if lacks:
            raise InvalidInput(f"{name!r} is no {self._kind}: it has no {', '.join(lacks)}")
        return found


def _why(error: BaseException) -> str:
    """What code of somebody else says of itself, in one line."""
    return " ".join(described(error).split())
