"""The page's files, and the policies that a browser holds them to. Plain modules: a server sends them as they are, a file holds
them put together."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

#: The modules in an order in which each comes after those that it imports.
MODULES = ("dom", "source", "rows", "content", "entries", "tokens", "compare", "list", "trajectory", "app")
#: What a server's page may do: its own scripts and styles, its own server, images that stand in the data. No other host.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}


@cache
def asset(name: str) -> bytes:
    """A file of the page. Raises FileNotFoundError."""
    return (files(__package__) / "assets" / name).read_bytes()


def names() -> list[str]:
    """The files that a page asks for, beside the page itself."""
    return [*(f"{module}.js" for module in MODULES), "style.css"]


def script() -> str:
    """All modules as one script: their imports of each other are gone, and what they export is at its top."""
    parts = (asset(f"{module}.js").decode() for module in MODULES)
    return "".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class) )", re.M)


def hash_of(text: str) -> str:
    """The hash by which a policy allows a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
