"""The page's files, and the policies that a browser holds them to. Plain modules: a server sends them as they are, a file holds
them put together."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

#: The modules in an order in which each comes after those that it imports.
MODULES = (
    "dom",
    "source",
    "rows",
    "content",
    "entries",
    "tokens",
    "list",
    "trajectory",
    "charts",
    "compare",
    "figures",
    "labels",
    "queue",
    "app",
)
#: What a server's page may do: its own scripts and styles, its own server, images that stand in the data. No other host.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; media-src data:;"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}


@cache
def asset(name: str) -> bytes:
    """A file of the page. Raises FileNotFoundError."""
    return (files(__package__) / "assets" / name).read_bytes()


def names() -> list[str]:
    """The files that a page asks for, beside the page itself."""
    return [*(f"{module}.js" for module in MODULES), "style.css"]


@cache
def served() -> bytes:
    """The page as a server sends it: the browser asks for all modules at once, instead of for each after who imports it."""
    links = "".join(f'<link rel="modulepreload" href="{module}.js">\n' for module in MODULES)
    return asset("index.html").replace(b"</head>", links.encode() + b"</head>")


def script() -> str:
    """All modules as one script: each is a function that gives what it exports, and takes what it imports from those before."""
    return "const modules = {};\n" + "".join(map(_as_function, MODULES))


def _as_function(module: str) -> str:
    text = asset(f"{module}.js").decode()
    exported = ", ".join(_EXPORT.findall(text))
    text = _EXPORT.sub(lambda found: found[0].removeprefix("export "), _IMPORT.sub(r"const {\1} = modules.\2;", text))
    return f"modules.{module} = (() => {{\n{text}return {{ {exported} }};\n}})();\n"


_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";', re.M)
_EXPORT = re.compile(r"^export (?:async )?(?:function|const|let|class) (\w+)", re.M)


def hash_of(text: str) -> str:
    """The hash by which a policy allows a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
