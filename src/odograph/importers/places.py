"""Where the agents of a machine keep their sessions. Looks at the names and sizes of files, and at nothing in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec


class Place(msgspec.Struct, frozen=True):
    """A file or a folder with the sessions of an agent."""

    agent: str
    path: Path
    files: int
    bytes: int


#: The folders of editors, and what extensions keep in them.
_EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
#: Where the extensions of an editor keep them on a machine that the editor works on from another.
_SERVERS = ("vscode-server", "vscode-server-insiders", "vscodium-server", "cursor-server", "windsurf-server")
_EXTENSIONS = {
    "cline": "saoudrizwan.claude-dev",
    "roo-code": "rooveterinaryinc.roo-cline",
    "kilo-code": "kilocode.kilo-code",
}


def places(home: Path | None = None, here: Path | None = None) -> list[Place]:
    """The places that there are on this machine, the largest first. `home` and `here`: the home and the working directory."""
    found: dict[Path, Place] = {}
    for agent, path in _known(home or Path.home(), here or Path.cwd()):
        try:
            if path.exists() and path.resolve() not in found:
                files, size = _size(path)
                if files:
                    found[path.resolve()] = Place(agent, path, files, size)
        except OSError:  # not ours to look at
            continue
    return sorted(found.values(), key=lambda p: (-p.bytes, p.agent))


def _of(variable: str, default: Path) -> Path:
    return Path(given) if (given := os.environ.get(variable)) else default


def _known(home: Path, here: Path) -> Iterator[tuple[str, Path]]:
    data = _of("XDG_DATA_HOME", home / ".local" / "share")
    config = _of("XDG_CONFIG_HOME", home / ".config")
    support = home / "Library" / "Application Support"
    roaming = _of("APPDATA", home / "AppData" / "Roaming")
    claude = _of("CLAUDE_CONFIG_DIR", home / ".claude")
    yield from (("claude-code", folder / "projects") for folder in (claude, config / "claude"))
    codex = _of("CODEX_HOME", home / ".codex")
    yield from (("codex", codex / name) for name in ("sessions", "archived_sessions"))
    yield "gemini-cli", _of("GEMINI_CLI_HOME", home) / ".gemini" / "tmp"
    yield from (("qwen-code", home / ".qwen" / name) for name in ("projects", "tmp"))
    yield "pi", _of("PI_CODING_AGENT_DIR", home / ".pi" / "agent") / "sessions"
    yield "openclaw", _of("OPENCLAW_STATE_DIR", home / ".openclaw") / "agents"
    yield from (("opencode", file) for file in sorted((data / "opencode").glob("opencode*.db")))
    yield from (("kilo-code", file) for file in sorted((data / "kilo").glob("kilo*.db")))
    yield from (("goose", folder / "goose" / "sessions") for folder in (data, support / "Block", roaming / "Block"))
    if root := os.environ.get("GOOSE_PATH_ROOT"):
        yield "goose", Path(root) / "data" / "sessions"
    yield "amp", data / "amp" / "threads"
    yield "droid", home / ".factory" / "sessions"
    yield "kimi", _of("KIMI_SHARE_DIR", home / ".kimi") / "sessions"
    yield "kimi-code", _of("KIMI_CODE_HOME", home / ".kimi-code") / "sessions"
    yield "continue", _of("CONTINUE_GLOBAL_DIR", home / ".continue") / "sessions"
    yield "copilot", _of("COPILOT_HOME", home / ".copilot") / "session-state"
    yield from (("cline", home / ".cline" / "data" / name) for name in ("sessions", "tasks"))
    yield "cursor", home / ".cursor" / "chats"
    yield from (("cursor", folder) for folder in sorted((home / ".cursor" / "projects").glob("*/agent-transcripts")))
    users = [base / editor / "User" for base in (config, support, roaming) for editor in _EDITORS]
    users += [home / f".{server}" / "data" / "User" for server in _SERVERS]
    for user in users:
        yield from ((agent, user / "globalStorage" / name / "tasks") for agent, name in _EXTENSIONS.items())
        yield from (("copilot-chat", folder) for folder in sorted((user / "workspaceStorage").glob("*/chatSessions")))
        yield "copilot-chat", user / "globalStorage" / "emptyWindowChatSessions"
    for base in (config, support, roaming):
        yield "cursor", base / "Cursor" / "User" / "globalStorage" / "state.vscdb"
    yield from (("aider", folder / ".aider.chat.history.md") for folder in dict.fromkeys((here, home)))


def _size(path: Path) -> tuple[int, int]:
    """How many files there are, and how many bytes. Links are not followed."""
    if path.is_file():
        return 1, path.stat().st_size
    files = size = 0
    for folder, _, names in os.walk(path, onerror=lambda error: None):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            files += 1
            size += status.st_size
    return files, size
