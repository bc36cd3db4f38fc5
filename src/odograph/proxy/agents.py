"""The agents that `odograph record` knows: one row says how a program is led to the proxy, and where it keeps its sessions. Pure.

No row changes a file of the user. A program is led by environment variables and flags of its own, for this one run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..access import parts_of
from ..codec import encode, loads_or_raw
from ..errors import InvalidInput
from ..types import TAG
from .address import KEYS

#: Where an agent finds each provider: its base URL, which leads through the proxy.
Bases = Mapping[str, str]


class Provider(msgspec.Struct, frozen=True):
    """A provider's API: where it is, and the variables that name another place, the first of which counts."""

    url: str
    #: The path that stands behind a URL without one.
    path: str
    variables: tuple[str, ...]


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com", "/v1", ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "anthropic": Provider("https://api.anthropic.com", "", ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE")),
    "gemini": Provider("https://generativelanguage.googleapis.com", "", ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_BASE")),
}


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `variables` and `flags` are made of the base URLs; flags stand behind the program's name."""

    name: str
    programs: tuple[str, ...] = ()
    variables: Callable[[Bases, Mapping[str, str], list[str]], dict[str, str]] = lambda bases, env, argv: {}
    flags: Callable[[Bases], list[str]] = lambda bases: []
    #: Makes files of its configuration in a folder that is there for this run; the variables that lead to them.
    files: Callable[[Bases, Path, Path], dict[str, str]] | None = None
    #: Where its session files are: the variable that names its folder, the folder below the home, and a pattern in it.
    home: tuple[str, str] | None = None
    sessions: str = ""

    def folder(self, env: Mapping[str, str]) -> Path | None:
        """The folder of its session files."""
        if self.home is None:
            return None
        variable, below = self.home
        given = env.get(variable) if variable else None
        return Path(given) if given else Path(env.get("HOME") or os.path.expanduser("~")) / below


def _opencode(bases: Bases, env: Mapping[str, str], argv: list[str]) -> dict[str, str]:
    """opencode merges this over the user's own configuration. A provider of the user's is named by `-m PROVIDER/MODEL`."""
    found = loads_or_raw(env.get("OPENCODE_CONFIG_CONTENT", "{}").encode("utf-8", "replace"))
    config: dict[str, Any] = found if isinstance(found, dict) else {}
    given = config.get("provider")
    providers: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    ends = {"openai": bases["openai"], "anthropic": bases["anthropic"] + "/v1", "google": bases["gemini"] + "/v1beta"}
    for flag, model in itertools.pairwise(word for arg in argv for word in arg.split()):
        if flag in ("-m", "--model") and "/" in model:
            ends.setdefault(model.partition("/")[0], bases["openai"])
    for name, url in ends.items():
        old = providers.get(name)
        old = old if isinstance(old, dict) else {}
        options = old.get("options")
        providers[name] = {**old, "options": {**(options if isinstance(options, dict) else {}), "baseURL": url}}
    return {"OPENCODE_CONFIG_CONTENT": encode({**config, "provider": providers}).decode()}


#: The APIs that pi's providers speak, and whose base URL leads there; what stands behind it.
_PI = {"openai-completions": ("openai", ""), "openai-responses": ("openai", ""), "anthropic-messages": ("anthropic", ""),
       "google-generative-ai": ("gemini", "/v1beta")}  # fmt: skip
_PI_OWN = {"openai": "openai-responses", "anthropic": "anthropic-messages", "google": "google-generative-ai"}


def _pi(bases: Bases, home: Path, place: Path) -> dict[str, str]:
    """pi reads base URLs from a file only. So it gets a folder in which all but this file is the user's own."""
    with contextlib.suppress(OSError):
        (home / "sessions").mkdir(parents=True, exist_ok=True)
        for entry in home.iterdir():
            if entry.name != "models.json":
                (place / entry.name).symlink_to(entry)
    try:
        found = loads_or_raw((home / "models.json").read_bytes())
    except OSError:
        found = {}
    config: dict[str, Any] = found if isinstance(found, dict) and TAG not in found else {}
    given = config.get("providers")
    providers: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    for name in (*_PI_OWN, *providers):
        old = providers.get(name)
        old = old if isinstance(old, dict) else {}
        api = _PI.get(str(old.get("api") or _PI_OWN.get(name)))
        if api is not None:
            providers[name] = {**old, "baseUrl": bases[api[0]] + api[1]}
    (place / "models.json").write_bytes(encode({**config, "providers": providers}))
    return {"PI_CODING_AGENT_DIR": str(place)}


#: Every program gets the variables of all providers; the rows say what it needs beside them.
AGENTS: tuple[Agent, ...] = (
    Agent(
        name="claude-code",
        programs=("claude", "claude-code"),
        home=("CLAUDE_CONFIG_DIR", ".claude"),
        sessions="projects/**/*.jsonl",
    ),
    Agent(
        name="codex",
        programs=("codex",),
        flags=lambda bases: ["-c", f'openai_base_url="{bases["openai"]}"'],
        home=("CODEX_HOME", ".codex"),
        sessions="sessions/**/*.jsonl",
    ),
    Agent(
        name="gemini-cli", programs=("gemini", "gemini-cli"), home=("GEMINI_CLI_HOME", ".gemini"), sessions="tmp/**/chats/*.json*"
    ),
    Agent(name="qwen-code", programs=("qwen", "qwen-code"), home=("", ".qwen"), sessions="**/chats/*.json*"),
    Agent(name="opencode", programs=("opencode", "opencode-ai"), variables=_opencode),
    Agent(
        name="pi",
        programs=("pi", "pi-coding-agent"),
        files=_pi,
        home=("PI_CODING_AGENT_DIR", ".pi/agent"),
        sessions="sessions/**/*.jsonl",
    ),
    Agent(name="aider", programs=("aider",)),
    Agent(
        name="mini-swe-agent",
        programs=("mini", "mini-swe-agent"),
        home=("MSWEA_GLOBAL_CONFIG_DIR", ".config/mini-swe-agent"),
        sessions="*.traj.json",
    ),
)
GENERIC = Agent(name="generic")
_RUNNERS = ("npx", "bunx", "pnpx")


def agent_of(argv: list[str], named: str | None = None) -> Agent:
    """The row of a command, by its program's name, or the row of a name. Raises InvalidInput for a name that no row has."""
    if named is not None:
        found = next((row for row in (*AGENTS, GENERIC) if row.name == named), None)
        if found is None:
            raise InvalidInput(f"no agent {named!r}; there are: {', '.join(row.name for row in (*AGENTS, GENERIC))}")
        return found
    return _found(argv)[0]


def _found(argv: list[str]) -> tuple[Agent, int]:
    """The row of a command by its program's name, and where the program stands; npx and its like run the program of a package."""
    for at in range(len(argv) if os.path.basename(argv[0]) in _RUNNERS else 1):
        program = os.path.basename(argv[at]).partition("@")[0].removesuffix(".exe").removesuffix(".js")
        row = next((row for row in AGENTS if program in row.programs), None)
        if row is not None:
            return row, at
    return GENERIC, 0


def command(agent: Agent, bases: Bases, argv: list[str]) -> list[str]:
    """A command with the flags of its agent: behind its program, or behind the first word where the user named the agent."""
    row, found = _found(argv)
    at = found + 1 if row is agent else 1
    return [*argv[:at], *agent.flags(bases), *argv[at:]]


def upstreams(env: Mapping[str, str], given: str | None) -> dict[str, tuple[str, str]]:
    """For each provider the upstream's URL without a path, and the path of its base URL: that of the user's own environment, or
    the one that is `given` for all."""
    out: dict[str, tuple[str, str]] = {}
    for name, provider in PROVIDERS.items():
        url = given or next((env[v] for v in provider.variables if env.get(v)), provider.url)
        parts = parts_of(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"the base URL of {name} is an http:// or https:// URL, not {url!r}")
        path = parts.path.rstrip("/")
        if given and name != "openai" and path == "/v1":
            path = ""
        elif not path:
            path = provider.path
        out[name] = (f"{parts.scheme}://{parts.netloc}", path)
    return out


def based(url: str, ticket: str, path: str) -> str:
    """The base URL by which an agent finds a provider through the proxy at `url`."""
    ends = "/-" if path.lstrip("/").partition("/")[0] in (*KEYS, "-") else ""
    return f"{url}/t/{ticket}{ends}{path}"


def environment(agent: Agent, bases: Bases, env: Mapping[str, str], argv: list[str], place: Path) -> dict[str, str]:
    """The environment in which an agent's program runs. `place`: a folder for files that are there for this run."""
    out = dict(env)
    for name, provider in PROVIDERS.items():
        for variable in provider.variables:
            out[variable] = bases[name]
    beside = [part for part in (env.get("NO_PROXY") or env.get("no_proxy") or "").split(",") if part]
    out["NO_PROXY"] = out["no_proxy"] = ",".join([*beside, "127.0.0.1", "localhost"])
    for row in AGENTS if agent is GENERIC else (agent,):  # a shell, `make`, `uv run` or a script may start any of them
        folder = row.folder(env)
        if row.files is not None and folder is not None and (row is agent or folder.is_dir()):
            out |= row.files(bases, folder, place)
        out |= row.variables(bases, env, argv)
        program = shutil.which(row.programs[0], path=env.get("PATH")) if row is not agent and row.flags(bases) else None
        if program is not None:  # which is led by flags alone
            led = place / "odograph-bin" / row.programs[0]
            led.parent.mkdir(exist_ok=True)
            led.write_text(f'#!/bin/sh\nexec {shlex.join([program, *row.flags(bases)])} "$@"\n')
            led.chmod(0o700)
            out["PATH"] = f"{led.parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    return out
