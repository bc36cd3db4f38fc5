"""A name, `package:object` or `file.py[:object]` -> the object it names. Knows nothing of what the objects do."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from .errors import InvalidInput, NotFound, UnknownName, described


def entry_points(group: str) -> list[str]:
    """The names that installed packages offer under an entry point group."""
    from importlib import metadata

    return sorted(p.name for p in metadata.entry_points(group=group))


def available(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def load(name: str, group: str | None = None) -> Any:
    """The object of an entry point's name, of `package:object`, or of a Python file (the module, or `file.py:object`).

    None where no entry point has that name. Raises NotFound or InvalidInput where a path or object was meant and can't be had.
    """
    if group is not None:
        from importlib import metadata

        for point in metadata.entry_points(group=group, name=name):
            return point.load()
    where, _, what = name.partition(":")
    if where.endswith(".py"):
        module = _module_of_file(Path(where))
    elif what:
        try:
            module = importlib.import_module(where)
        except (ImportError, TypeError) as error:  # TypeError: a name that begins with a dot
            raise NotFound(f"no module {where!r}: {error}") from None
        except (Exception, SystemExit) as error:
            raise InvalidInput(f"{where!r} can't be loaded: {described(error)}") from error
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
    spec = importlib.util.spec_from_file_location(f"odograph_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{str(path)!r} can't be loaded: {described(error)}") from error
    return module
