"""Tools of MCP servers, over stdio or HTTP, by the official package `mcp`. Knows no agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra, RunError, described
from .tools import ToolError, UsableTool, sanitised


class MCPServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server as a source of tools: `command` with `args` (stdio), or `url` (streamable HTTP).

    Each run gets a connection of its own, and over stdio a process of its own, so that runs don't see each other's state.
    `tools` names those to offer; None: all. Values of `env` and `headers` are never recorded. `timeout`: seconds to connect.
    """

    command: str | None = None
    args: list[str] = []
    env: dict[str, str] | None = None
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    tools: list[str] | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if (self.command is None) == (self.url is None):
            raise InvalidInput("an MCP server has a command (stdio) or a url (HTTP), one of the two")

    def __repr__(self) -> str:
        return f"<MCPServer {self.url or ' '.join([str(self.command), *self.args])}>"

    def spec(self) -> dict[str, Any]:
        """What is recorded of it."""
        whole = {"command": self.command, "args": self.args, "cwd": self.cwd, "url": self.url, "tools": self.tools}
        return {k: v for k, v in whole.items() if v}


class Connection:
    """A live connection. It is opened and closed by one task of its own, as the package's cancel scopes want."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        self._client: Any = None
        self._ready: asyncio.Future[list[Any]] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> list[UsableTool]:
        """Connects; the tools that are offered. Raises RunError, MissingExtra, InvalidInput."""
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingExtra("an agent with an MCP server", "mcp") from None
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(self._ready), name="odograph-mcp")
        try:
            async with asyncio.timeout(self._server.timeout):
                found = await asyncio.shield(self._ready)
        except TimeoutError:
            await self.close()
            raise RunError(f"{self._server!r} did not answer within {self._server.timeout:g} s") from None
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
                ready.set_exception(RunError(f"{self._server!r} can't be used: {_first(error)}"))
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
                quiet = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
                about = mcp.StdioServerParameters(command=str(server.command), args=server.args, env=server.env, cwd=server.cwd)
                transport = stdio_client(about, errlog=quiet)
            yield await stack.enter_async_context(mcp.Client(transport))

    def _usable(self, found: Any) -> UsableTool:
        name: str = found.name

        async def call(arguments: dict[str, Any]) -> tuple[Any, str]:
            if self._task is None or self._task.done():
                raise ToolError(f"{self._server!r} is gone")
            result = await self._client.call_tool(name, arguments)
            text = "\n".join(_text(block) for block in result.content)
            if result.is_error:
                raise ToolError(text or "the tool failed and did not say why")
            kept = result.structured_content
            if kept is None:
                only = len(result.content) == 1 and getattr(result.content[0], "text", None) is not None
                kept = text if only else [b.model_dump(mode="json", exclude_none=True) for b in result.content]
            return kept, text

        tool = Tool(name=sanitised(name), description=found.description or "", parameters=found.input_schema)
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


def _first(error: BaseException) -> str:
    """The reason inside of a group of errors."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return described(error)
