"""Tools of MCP servers, over stdio or HTTP, by the official package `mcp`. Knows no agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any, Self

import msgspec

from ..codec import encode
from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra, RunError, described
from .showing import images_of, seen, shown
from .timing import ToolError
from .tools import UsableTool, sanitised


class MCPServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server as a source of tools: `command` with `args` (stdio), or `url` (streamable HTTP).

    Each run gets a connection of its own, and over stdio a process of its own, so that runs don't see each other's state.
    `shared=True`: the runs of a batch have one connection, for a server that is slow to start or keeps no state of a run.
    A server that says that its tools changed is asked for them before the next request. `tools` names those to
    offer; None: all. `prefix` goes before the names of the tools; without, tools of several servers that have one name get the
    name of their server. Values of `env` and `headers` are never recorded. `timeout`: seconds to connect.
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
    shared: bool = False

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
        whole: dict[str, Any] = {
            "command": self.command,
            "args": self.args,
            "cwd": self.cwd,
            "url": self.url,
            "tools": self.tools,
        }
        whole |= {"prefix": self.prefix, "shared": self.shared}
        return {k: v for k, v in whole.items() if v}


class Connection:
    """A live connection. It is opened and closed by one task of its own, as the package's cancel scopes want."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        #: How often the server said that its tools changed, or was started again.
        self.version = 0
        self._known: tuple[int, list[UsableTool]] | None = None
        self._turn = asyncio.Lock()  # of those who share the connection, one opens it
        self._client: Any = None
        self._ready: asyncio.Future[list[Any]] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        self._stderr: Any = None

    async def tools(self) -> list[UsableTool]:
        """The tools that are offered; connects where that was not done. Raises RunError, MissingExtra, InvalidInput."""
        async with self._turn:
            version = self.version
            if self._known is None:
                found = await self._open()
                names = [t.name for t in found]
                for name in self._server.tools or ():
                    if name not in names:
                        await self.close()
                        raise InvalidInput(f"{self._server!r} has no tool {name!r}; there are: {', '.join(names)}")
            elif self._known[0] == version:
                return self._known[1]
            else:
                try:
                    async with asyncio.timeout(self._server.timeout):
                        found = await _listed(self._client)
                except Exception as error:  # a server that died: the next call starts it again, or says why not
                    if not _is_lost(error):
                        raise RunError(f"{self._server!r} does not list its tools: {_first(error)}") from None
                    return self._known[1]
            wanted = self._server.tools
            self._known = version, [self._usable(t) for t in found if wanted is None or t.name in wanted]
            return self._known[1]

    async def _open(self) -> list[Any]:
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingExtra("an agent with an MCP server", "mcp") from None
        self._closing, self._lost = asyncio.Event(), False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(self._ready), name="odograph-mcp")
        try:
            async with asyncio.timeout(self._server.timeout):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            said = self._said()
            await self.close()
            raise RunError(f"{self._server!r} did not answer within {self._server.timeout:g} s{said}") from None
        except (RunError, asyncio.CancelledError):
            await self.close()
            raise

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            task, self._task = self._task, None
            if self._ready is not None and not self._ready.done():  # it is being waited for, and hears of no closing
                task.cancel()
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
                tools = await _listed(client)
                if not ready.done():
                    ready.set_result(tools)
                listening = asyncio.create_task(self._listen(client), name="odograph-mcp-listen")
                try:
                    await self._closing.wait()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        except BaseException as error:
            if not ready.done():
                ready.set_exception(RunError(f"{self._server!r} can't be used: {_first(error)}{self._said()}"))
                ready.exception()  # seen, even if nobody waits any more
            elif not isinstance(error, Exception):
                raise

    async def _listen(self, client: Any) -> None:
        """Hears of changed tools from a server that speaks the protocol of 2026-07-28. Earlier ones tell by themselves."""
        offered = getattr(client.server_capabilities, "tools", None)
        if getattr(offered, "list_changed", None):
            with contextlib.suppress(Exception):  # an earlier protocol, or the connection is over
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self.version += 1

    async def _heard(self, message: Any) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            self.version += 1

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
            yield await stack.enter_async_context(mcp.Client(transport, message_handler=self._heard))

    async def _alive(self) -> None:
        """Connects once more where the server died, or closed the connection."""
        async with self._turn:
            if not (self._lost or self._task is None or self._task.done()):
                return
            await self.close()
            try:
                await self._open()
            except RunError as error:
                self._lost = True
                raise ToolError(f"{self._server!r} is gone, and can't be started again: {error}") from None
            self.version += 1  # it may offer others now

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
            await self._alive()
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
            if not result.content and result.structured_content is not None:
                text = seen(result.structured_content)
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


async def _listed(client: Any) -> list[Any]:
    """The tools of all pages, as the server has them now."""
    tools: list[Any] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tools


class Connections:
    """Those of one conversation, by server. In a batch, the connections of shared servers are the batch's."""

    def __init__(self) -> None:
        self._open: dict[bytes, Connection] = {}
        self._outer: Token[Connections | None] | None = None

    def to(self, server: MCPServer) -> Connection:
        outer = _batch.get()
        if server.shared and outer is not None and outer is not self:
            return outer.to(server)
        return self._open.setdefault(encode(server), Connection(server))

    async def aclose(self) -> None:
        connections, self._open = self._open, {}
        for connection in connections.values():
            await connection.close()

    async def __aenter__(self) -> Self:
        self._outer = _batch.set(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._outer is not None:
            _batch.reset(self._outer)
        await self.aclose()


_batch: ContextVar[Connections | None] = ContextVar("odograph_mcp_batch", default=None)


def _text(block: Any) -> str:
    text = getattr(block, "text", None)
    if isinstance(text, str):
        return text
    resource = getattr(block, "resource", None)
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return text
    about = getattr(block, "uri", None) or getattr(resource, "uri", None) or getattr(block, "mime_type", None)
    return f"[{getattr(block, 'type', 'content')} {about or ''}]".replace(" ]", "]")


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
