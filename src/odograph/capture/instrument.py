"""`instrument()`: what the SDKs call in this process is recorded, whoever made their clients, until `uninstrument()`.

Each SDK has one place that every request of its clients passes. There the client's own HTTP transport is recorded, as `wrap`
does: a client that both know is recorded once. An SDK that is imported later is met when it is imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec
from typing import Any

from ..locks import Lock
from . import botocore, faults, lm15, scope, sockets
from .directing import carried
from .wrap import record, unrecord


class _State:
    """What is recorded now: nothing, until `instrument` is called."""

    on = False
    tokens = False
    threads = False


_state = _State()
_lock = Lock()
#: What was put in the place of what: (owner, name, ours, theirs).
_placed: list[tuple[Any, str, Any, Any]] = []


def instrument(*, tokens: bool = False, threads: bool = False) -> None:
    """Records every call that the SDKs of OpenAI, Anthropic, Google (google-genai), Hugging Face, Mistral, Groq, Together and
    Fireworks, LiteLLM, DSPy and botocore (Bedrock) make in this process, by clients that exist and by those to come. Calls are
    recorded as those of a wrapped client: in the current run, else as trajectories of their own in the default store. A client
    that `wrap` was given is recorded once. `tokens`: as of `wrap`. `threads`: a thread that is started inside of a run, and what
    is submitted to a thread pool there, belong to that run.

    Calling it twice is a no-op but for options that come in addition. `uninstrument` undoes all of it.
    """
    with _lock:
        _state.on = True
        _state.tokens = _state.tokens or tokens
        if threads and not _state.threads:
            _state.threads = True
            _place_threads()
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
            for name in _HOOKS:
                if name in sys.modules:
                    _hook(name)


def uninstrument() -> None:
    """Undoes `instrument`. Clients that `wrap` was given stay recorded."""
    with _lock:
        _state.on = _state.tokens = _state.threads = False
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        while _placed:
            owner, name, ours, theirs = _placed.pop()
            if vars(owner).get(name) is ours:  # else another put theirs over it: ours then passes on what it gets
                setattr(owner, name, theirs)
        unrecord()


def _place(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    theirs = vars(owner).get(name)
    if theirs is None:
        return
    ours = wraps(theirs)(around(theirs))
    setattr(owner, name, ours)
    _placed.append((owner, name, ours, theirs))


# --- the SDKs ------------------------------------------------------------------------------------------------------------


def _met(client: Any) -> None:
    """A client is about to send something."""
    if not _state.on:
        return
    try:
        if not record(client, _state.tokens, lent=True):  # it stands on another HTTP library
            faults.unrecorded()
    except Exception as error:
        faults.fault(error)


def _meeting(theirs: Any) -> Any:
    def ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        _met(self)
        return theirs(self, *args, **kwargs)

    return ours


def _meeting_given(theirs: Any) -> Any:
    def ours(self: Any, client: Any, *args: Any, **kwargs: Any) -> Any:
        _met(client)
        return theirs(self, client, *args, **kwargs)

    return ours


def _meeting_handler(theirs: Any) -> Any:
    def ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        _met(kwargs.get("client") or self.client)
        return theirs(self, *args, **kwargs)

    return ours


def _meeting_session(theirs: Any) -> Any:
    def ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        _met(sys.modules["huggingface_hub.utils"].get_session())
        return theirs(self, *args, **kwargs)

    return ours


def _meeting_opened(theirs: Any) -> Any:
    async def ours(self: Any) -> Any:
        client = await theirs(self)
        _met(client)
        return client

    return ours


def _connecting(theirs: Any) -> Any:
    def ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        opened = theirs(self, *args, **kwargs)
        return sockets.opening(opened) if _state.on else opened

    return ours


def _counting(theirs: Any) -> Any:
    def ours(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _state.on and theirs.__name__ not in vars(self):  # else `wrap` counts it
            faults.unrecorded()
        return theirs(self, *args, **kwargs)

    return ours


def _sending(theirs: Any) -> Any:
    def ours(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if not _state.on:
            return theirs(self, request, *args, **kwargs)
        return botocore.passed(request, lambda: theirs(self, request, *args, **kwargs))

    return ours


def _streaming(theirs: Any) -> Any:
    def ours(self: Any, request: Any) -> Any:
        return lm15.passed(request, lambda: theirs(self, request)) if _state.on else theirs(self, request)

    return ours


def _streaming_async(theirs: Any) -> Any:
    async def ours(self: Any, request: Any) -> Any:
        return await (lm15.passed_async(request, lambda: theirs(self, request)) if _state.on else theirs(self, request))

    return ours


#: SDKs that one generator (Stainless) made: they differ in their names only.
_ALIKE = ("openai", "anthropic", "groq", "together", "fireworks", "cerebras.cloud.sdk")

#: Modules, and what of them every request passes: class, method, what is put around it.
_HOOKS: dict[str, list[tuple[str, str, Callable[[Any], Any]]]] = {
    **{f"{sdk}._base_client": [("BaseClient", "_build_request", _meeting)] for sdk in _ALIKE},
    "openai.resources.responses.responses": [("Responses", "connect", _connecting), ("AsyncResponses", "connect", _connecting)],
    "openai.resources.realtime.realtime": [("Realtime", "connect", _counting), ("AsyncRealtime", "connect", _counting)],
    "google.genai.live": [("AsyncLive", "connect", _counting)],
    "google.genai._api_client": [("BaseApiClient", "_build_request", _meeting)],
    "litellm.llms.custom_httpx.http_handler": [
        ("HTTPHandler", "post", _meeting_handler),
        ("AsyncHTTPHandler", "post", _meeting_handler),
        ("AsyncHTTPHandler", "single_connection_post_request", _meeting_handler),
        ("AsyncHTTPHandler", "single_connection_request", _meeting_handler),
    ],
    "litellm.llms.custom_httpx.aiohttp_handler": [("BaseLLMAIOHTTPHandler", "_make_common_async_call", _counting)],
    "mistralai.client.basesdk": [("BaseSDK", "_build_request_with_client", _meeting_given)],
    "mistralai.basesdk": [("BaseSDK", "_build_request_with_client", _meeting_given)],  # before version 2
    "huggingface_hub.inference._client": [("InferenceClient", "_inner_post", _meeting_session)],
    "huggingface_hub.inference._generated._async_client": [("AsyncInferenceClient", "_get_async_client", _meeting_opened)],
    "cohere.core.http_client": [
        (kind, method, _meeting) for kind in ("HttpClient", "AsyncHttpClient") for method in ("request", "stream")
    ],
    "ollama._client": [(kind, method, _meeting) for kind in ("Client", "AsyncClient") for method in ("_request", "_request_raw")],
    "botocore.endpoint": [("Endpoint", "_send", _sending)],
    **{
        f"{package}.transports.{module}": [hook]
        for package in ("lm15", "dspy._vendor.lm15")
        for module, hook in (
            ("_sync", ("StdlibTransport", "stream", _streaming)),
            ("_async", ("StdlibAsyncTransport", "_do_stream", _streaming_async)),
        )
    },
}


def _hook(name: str) -> None:
    module = sys.modules.get(name)
    for kind, method, around in _HOOKS[name]:
        owner = getattr(module, kind, None)
        if isinstance(owner, type):
            _place(owner, method, around)


class _Finder:
    """Meets the SDKs when they are imported. It finds nothing itself."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _HOOKS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                self._meet(spec, name)
                return spec  # type: ignore[no-any-return]
        return None

    def _meet(self, spec: Any, name: str) -> None:
        loader = spec.loader
        run = getattr(loader, "exec_module", None)
        if run is None:
            return

        def exec_module(module: Any) -> None:
            run(module)
            with _lock:
                if _state.on:
                    try:
                        _hook(name)
                    except Exception as error:
                        faults.fault(error)

        try:
            loader.exec_module = exec_module
        except AttributeError as error:
            faults.fault(error)


_finder: Any = _Finder()


# --- threads -------------------------------------------------------------------------------------------------------------


def _place_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def starting(theirs: Any) -> Any:
        def start(self: Any) -> Any:
            pool = getattr(getattr(self, "_target", None), "__module__", "") == "concurrent.futures.thread"
            if _state.threads and not pool and scope.current() is not None:  # what a pool's threads do is told with each call
                self.run = carried(self.run)
            return theirs(self)

        return start

    def submitting(theirs: Any) -> Any:
        def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return theirs(self, carried(fn) if _state.threads else fn, *args, **kwargs)

        return submit

    _place(threading.Thread, "start", starting)
    _place(ThreadPoolExecutor, "submit", submitting)
