"""Tools of MCP servers, over stdio or HTTP, by the official package `mcp`. Knows no agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra, RunError, described
from .tools import ToolError, UsableTool, images_of, sanitised, shown


class MCPServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server as a source of tools: `command` with `args` (stdio), or `url` (streamable HTTP).

    Each run gets a connection of its own, and over stdio a process of its own, so that runs don't see each other's state.
    `tools` names those to offer; None: all. `prefix` goes before the names of the tools; without, tools of several servers that
    have one name get the name of their server. Values of `env` and `headers` are never recorded. `timeout`: seconds to connect.
    """

    command: str | None = None
    args: list[str] = []
    env: dict[str, str] | None = None
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    tools: list[str] | None = None
    prefix: str = ""
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if (self.command is None) == (self.url is None):
            raise InvalidInput("an MCP server has a command (stdio) or a url (HTTP), one of the two")

    def __repr__(self) -> str:
        return f"<MCPServer {self.url or ' '.join([str(self.command), *self.args])}>"

    @property
    def label(self) -> str:
        """What tells its tools from those of another server: the name of its program, or its host."""
        if self.url is not None:
            return sanitised(self.url.partition("://")[2].partition("/")[0])
        words = [w for w in [str(self.command), *self.args] if not w.startswith("-")]
        return sanitised(Path(words[-1]).stem)

    def spec(self) -> dict[str, Any]:
        """What is recorded of it."""
        whole = {"command": self.command, "args": self.args, "cwd": self.cwd, "url": self.url, "tools": self.tools}
        whole["prefix"] = self.prefix
        return {k: v for k, v in whole.items() if v}


class Connection:
    """A live connection. It is opened and closed by one task of its own, as the package's cancel scopes want."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        self._client: Any = None
        self._ready: asyncio.Future[list[Any]] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        self._stderr: Any = None

    async def open(self) -> list[UsableTool]:
        """Connects; the tools that are offered. Raises RunError, MissingExtra, InvalidInput."""
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingExtra("an agent with an MCP server", "mcp") from None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(self._ready), name="odograph-mcp")
        try:
            async with asyncio.timeout(self._server.timeout):
                found = await asyncio.shield(self._ready)
        except TimeoutError:
            said = self._said()
            await self.close()
            raise RunError(f"{self._server!r} did not answer within {self._server.timeout:g} s{said}") from None
        except (RunError, asyncio.CancelledError):
            await self.close()
            raise
        names = [t.name for t in found]
        wanted = self._server.tools
        for name in wanted or ():
            if name not in names:
                await self.close()
                raise InvalidInput(f"{self._server!r} has no tool {name!r}; there are: {', '.join(names)}")
        return [self._usable(t) for t in found if wanted is None or t.name in wanted]

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            task, self._task = self._task, None
            with contextlib.suppress(Exception, asyncio.CancelledError):
                async with asyncio.timeout(10):
                    await asyncio.shield(task)
            task.cancel()
        if self._stderr is not None:
            self._stderr.close()

    async def _live(self, ready: asyncio.Future[list[Any]]) -> None:
        try:
            async with self._connected() as client:
                self._client = client
                tools: list[Any] = []
                cursor = None
                while True:
                    page = await client.list_tools(cursor=cursor)
                    tools += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        break
                if not ready.done():
                    ready.set_result(tools)
                await self._closing.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(RunError(f"{self._server!r} can't be used: {_first(error)}{self._said()}"))
                ready.exception()  # seen, even if nobody waits any more
            elif not isinstance(error, Exception):
                raise

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        import mcp
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        async with contextlib.AsyncExitStack() as stack:
            server = self._server
            transport: Any
            if server.url is not None:
                import httpx2

                http = httpx2.AsyncClient(headers=server.headers, timeout=httpx2.Timeout(30, read=300))
                transport = streamable_http_client(server.url, http_client=await stack.enter_async_context(http))
            else:
                about = mcp.StdioServerParameters(command=str(server.command), args=server.args, env=server.env, cwd=server.cwd)
                transport = stdio_client(about, errlog=self._stderr)
            yield await stack.enter_async_context(mcp.Client(transport))

    async def _again(self) -> None:
        """Connects once more: the server died, or closed the connection."""
        await self.close()
        self._closing, self._lost = asyncio.Event(), False
        try:
            await self.open()
        except RunError as error:
            self._lost = True
            raise ToolError(f"{self._server!r} is gone, and can't be started again: {error}") from None

    def _said(self) -> str:
        """The last that a server process said on stderr."""
        try:
            self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, self._stderr.tell() - _STDERR))
            text = self._stderr.read().decode(errors="replace").strip()
        except (OSError, ValueError):
            return ""
        return f"; its stderr ends with: {text[-_STDERR:]}" if text else ""

    def _usable(self, found: Any) -> UsableTool:
        name: str = found.name

        async def call(arguments: dict[str, Any]) -> tuple[Any, str]:
            if self._lost or self._task is None or self._task.done():
                await self._again()
            try:
                result = await self._client.call_tool(name, arguments)
            except Exception as error:
                if _is_lost(error):
                    self._lost = True
                    raise ToolError(f"{self._server!r} is gone: {described(error)}{self._said()}") from None
                raise
            dumped = [b.model_dump(mode="json", exclude_none=True, by_alias=True) for b in result.content]
            told = shown(dumped) if images_of(dumped) else "\n".join(_text(block) for block in result.content)
            text: str = told
            if result.is_error:
                raise ToolError(text or "the tool failed and did not say why")
            kept = result.structured_content
            if kept is None:
                only = len(result.content) == 1 and getattr(result.content[0], "text", None) is not None
                kept = text if only else dumped
            return kept, text

        tool = Tool(
            name=sanitised(self._server.prefix + name), description=found.description or "", parameters=found.input_schema
        )
        return UsableTool(tool=tool, call=call)


def _text(block: Any) -> str:
    text = getattr(block, "text", None)
    if isinstance(text, str):
        return text
    resource = getattr(block, "resource", None)
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return text
    return f"[{getattr(block, 'type', 'content')} {getattr(block, 'mime_type', '') or ''}]".replace(" ]", "]")


_STDERR = 400  # characters of what a server said that go into an error


def _is_lost(error: Exception) -> bool:
    """Whether a connection is over, not only a call."""
    text = str(error).lower()
    kinds = ("ClosedResourceError", "BrokenResourceError", "EndOfStream", "ConnectError", "RemoteProtocolError")
    return type(error).__name__ in kinds or "connection closed" in text


def _first(error: BaseException) -> str:
    """The reason inside of a group of errors."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return described(error)
