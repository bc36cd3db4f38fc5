"""`instrument`: clients that nobody wrapped, by real SDKs against a real local server."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import httpx
import lm15.transports
import openai
import pytest

import odograph
from odograph.capture import botocore, faults, instrument
from odograph.dialects.framing import as_aws
from tests.http_server import serving
from tests.llm_server import Answer, LLMServer
from tests.programs import ran

HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def recorded() -> Iterator[None]:
    odograph.instrument()
    yield
    odograph.uninstrument()


def chat(server: LLMServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0)


def ask(client: Any) -> None:
    client.chat.completions.create(model="m", messages=HI)


def calls(store: odograph.Store, run: odograph.Run) -> list[Any]:
    return store.trajectory(run.id).llm_calls


def test_clients_that_exist_and_clients_to_come(store: odograph.Store) -> None:
    """Clients of others are recorded, made before or after; twice is once; afterwards nothing is."""
    with LLMServer([Answer(text="yo")]) as server:
        before = chat(server)
        odograph.instrument()
        odograph.instrument()
        try:
            with store.record(task="x") as run:
                ask(before)
                ask(chat(server))
                ask(before.with_options(http_client=openai.DefaultHttpxClient(timeout=5)))
                anthropic.Anthropic(base_url=server.url, api_key="x").messages.create(model="m", max_tokens=9, messages=HI)
        finally:
            odograph.uninstrument()
        assert [c.text for c in calls(store, run)] == ["yo"] * 4
        with store.record(task="off") as run:
            ask(before)
            ask(chat(server))
        assert not calls(store, run)


def test_clients_are_as_they_were_afterwards(recorded: None) -> None:
    """Their transports are their own again, of an async client, too; a place that has none stays empty."""
    for kind, http, below in (
        (openai.OpenAI, httpx.Client, httpx.HTTPTransport()),
        (openai.AsyncOpenAI, httpx.AsyncClient, httpx.AsyncHTTPTransport()),
    ):
        inner = http(transport=below, mounts={"all://a": None, "all://b": below})
        client: Any = kind(base_url="http://127.0.0.1:9/v1", api_key="x", http_client=inner)
        before, mounts = set(vars(client)), dict(inner._mounts)
        client._build_request(client._prepare_url and openai._models.FinalRequestOptions(method="get", url="/models"))
        assert inner._transport is not below and set(vars(client)) == before
        odograph.uninstrument()
        assert inner._transport is below and inner._mounts == mounts
        odograph.instrument()


def test_a_client_that_can_not_be_changed_asks_as_ever(
    store: odograph.Store, recorded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its HTTP client refuses the transport that records: the program has its answer, and a fault is counted."""

    class Sealed(httpx.Client):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_transport" and name in vars(self):
                raise AttributeError("sealed")
            super().__setattr__(name, value)

    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    before = store.health()["faults"]
    with LLMServer([Answer(text="yo")]) as server, store.record(task="x") as run:
        ask(openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0, http_client=Sealed()))
        assert len(server.requests) == 1
    assert (calls(store, run), store.health()["faults"]) == ([], before + 1)


@pytest.mark.parametrize("aiohttp", [False, True])
def test_the_async_client_of_google(store: odograph.Store, monkeypatch: pytest.MonkeyPatch, aiohttp: bool) -> None:
    """It is recorded in each event loop, whether aiohttp is installed beside it or not, and afterwards no more in the same loop."""
    api = pytest.importorskip("google.genai._api_client")
    monkeypatch.setattr(api, "has_aiohttp", aiohttp and api.has_aiohttp)
    genai = importlib.import_module("google.genai")

    async def ask() -> None:
        assert (await client.aio.models.generate_content(model="g", contents="q")).text == "yo"

    async def last() -> None:
        await ask()
        odograph.uninstrument()
        await ask()

    with LLMServer([Answer(text="yo")]) as server, store.record(task="x") as run:
        client = genai.Client(api_key="x", http_options={"base_url": server.url})
        odograph.instrument()
        try:
            asyncio.run(ask())
            asyncio.run(last())
        finally:
            odograph.uninstrument()
        asyncio.run(ask())
        assert (len(server.requests), len(calls(store, run))) == (4, 2)
        assert "_use_aiohttp" not in vars(client._api_client)
        try:
            odograph.instrument()
            asyncio.run(ask())
            odograph.wrap(client)
            for _ in range(2):
                odograph.uninstrument()
                asyncio.run(ask())  # what was wrapped stays recorded
                odograph.instrument()
                asyncio.run(ask())
        finally:
            odograph.uninstrument()
        asyncio.run(ask())
    assert [c.text for c in calls(store, run)] == ["yo"] * 8


def test_beside_wrap(store: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped client is recorded once while everything is, whichever came first, and stays recorded afterwards."""
    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path / "default"))  # for the call outside of a run
    with LLMServer([Answer()]) as server:
        first, second = odograph.wrap(chat(server)), chat(server)
        odograph.instrument()
        ask(second)
        odograph.wrap(second)
        with store.record(task="x") as run:
            ask(first)
            ask(second)
        assert len(calls(store, run)) == 2
        odograph.uninstrument()
        with store.record(task="x") as run:
            ask(first)
            ask(second)
        assert len(calls(store, run)) == 2


def test_beside_another_that_patches(store: odograph.Store) -> None:
    """What another tool put over ours stays in its place, and records go on or stop as asked."""
    from openai._base_client import BaseClient

    seen: list[int] = []
    odograph.instrument()
    ours = BaseClient._build_request

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return ours(self, *args, **kwargs)

    BaseClient._build_request = theirs  # type: ignore[method-assign]
    try:
        with LLMServer([Answer()]) as server:
            with store.record(task="x") as run:
                ask(chat(server))
            odograph.uninstrument()
            with store.record(task="x") as off:
                ask(chat(server))
        assert len(seen) == 2
        assert len(calls(store, run)) == 1
        assert not calls(store, off)
    finally:
        BaseClient._build_request = ours.__wrapped__  # type: ignore[method-assign,attr-defined]
        odograph.uninstrument()


def test_an_sdk_that_is_imported_later(tmp_path: Path) -> None:
    """`instrument()` imports no SDK; one that is imported afterwards is recorded."""
    with LLMServer([Answer(text="late")]) as server:
        code = f"""
import sys, odograph
odograph.instrument()
assert "openai" not in sys.modules and "anthropic" not in sys.modules
import openai
store = odograph.open({str(tmp_path / "s")!r})
with store.record(task="x") as run:
    openai.OpenAI(base_url={server.url + "/v1"!r}, api_key="x").chat.completions.create(model="m", messages={HI!r})
print([c.text for c in store.trajectory(run.id).llm_calls])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "['late']", done.stderr


class _Bedrock(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    busy = 0  # how many requests are refused first

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if _Bedrock.busy:
            _Bedrock.busy -= 1
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        kind = "application/json"
        if self.path.endswith("converse-stream"):
            kind = "application/vnd.amazon.eventstream"
            events: list[tuple[str, Any]] = [
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "he"}}),
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "llo"}}),
                ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
                ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"a": 1}'}}}),
                ("messageStop", {"stopReason": "tool_use"}),
                ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}}),
            ]
            data = b"".join(as_aws({":event-type": name}, json.dumps(value).encode()) for name, value in events)
        elif self.path.endswith("/converse"):
            message = {"role": "assistant", "content": [{"text": "whole"}]}
            body = {"output": {"message": message}, "stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 1}}
            data = json.dumps({**body, "metrics": {"latencyMs": 1}}).encode()
        else:
            content = [{"type": "text", "text": "invoked"}]
            claude = {"id": "m", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
            data = json.dumps({**claude, "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def aws() -> Iterator[Callable[[str], Any]]:
    """Makes a client of a service of AWS, whose server is ours."""
    boto3 = pytest.importorskip("boto3")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bedrock)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    about = {"region_name": "us-east-1", "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}"}
    yield functools.partial(boto3.client, aws_access_key_id="a", aws_secret_access_key="b", **about)
    server.shutdown()
    server.server_close()


def test_bedrock(store: odograph.Store, recorded: None, aws: Callable[[str], Any]) -> None:
    """Converse, its stream and InvokeModel of a Claude are recorded from botocore, and the agent gets all that came."""
    bedrock = aws("bedrock-runtime")
    asked = [{"role": "user", "content": [{"text": "q"}]}]
    with store.record(task="x") as run:
        whole = bedrock.converse(modelId="amazon.nova", messages=asked, system=[{"text": "be brief"}])
        events = list(bedrock.converse_stream(modelId="amazon.nova", messages=asked)["stream"])
        body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": HI})
        invoked = bedrock.invoke_model(modelId="anthropic.claude-3-haiku", body=body)["body"].read()
    assert whole["output"]["message"]["content"][0]["text"] == "whole"
    assert len(events) == 7
    assert json.loads(invoked)["content"][0]["text"] == "invoked"
    found = calls(store, run)
    assert [(c.record.dialect, c.model, c.text, c.finish_reason, c.record.error) for c in found] == [
        ("bedrock.converse", "amazon.nova", "whole", "end_turn", None),
        ("bedrock.converse", "amazon.nova", "hello", "tool_use", None),
        ("anthropic.messages", "anthropic.claude-3-haiku", "invoked", "end_turn", None),
    ]
    assert found[0].messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
    (call,) = found[1].choices[0].tool_calls
    assert (call.id, call.name, call.arguments) == ("t", "f", {"a": 1})
    assert (found[1].prompt_tokens, found[1].completion_tokens) == (3, 2)


def test_a_body_of_bedrock_is_recorded_however_it_is_read(
    store: odograph.Store, recorded: None, aws: Callable[[str], Any]
) -> None:
    """A body that is read in pieces is one answer; of one that the agent drops, what came is on record at once."""
    bedrock = aws("bedrock-runtime")
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": HI})

    def ask() -> Any:
        return bedrock.invoke_model(modelId="anthropic.claude-3-haiku", body=body)["body"]

    with store.record(task="x") as run:
        read, pieces = ask(), b""
        assert read.read(0) == b""
        while piece := read.read(7):
            pieces += piece
        assert json.loads(pieces)["content"][0]["text"] == "invoked"
        assert [c.text for c in calls(store, run)] == ["invoked"]
        ask().read(7)
        gc.collect()
        dropped = calls(store, run)[-1]
        assert (len(calls(store, run)), dropped.text, dropped.record.error is None) == (2, "", False)
        assert ask().readable()
        left = ask()
        left.close()
        assert left._raw_stream.closed and len(calls(store, run)) == 4
        assert json.loads(b"".join(ask()._raw_stream))["content"][0]["text"] == "invoked"  # as urllib3's own body
        assert [c.text for c in calls(store, run)] == ["invoked", "", "", "", "invoked"]


def test_the_retries_of_botocore_are_one_call(
    store: odograph.Store, recorded: None, aws: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What botocore sends again is one call, with the refused tries in it."""
    monkeypatch.setattr(_Bedrock, "busy", 2)
    with store.record(task="x") as run, run.step():
        aws("bedrock-runtime").converse(modelId="amazon.nova", messages=[{"role": "user", "content": [{"text": "q"}]}])
    (call,) = calls(store, run)
    assert (call.text, [r["status_code"] for r in call.record.extra["retries"]]) == ("whole", [503, 503])


def test_a_request_that_the_agent_repeats_is_another_call(
    store: odograph.Store, recorded: None, aws: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What botocore gave up and the agent asks again is two calls, each with its own retries."""
    monkeypatch.setattr(_Bedrock, "busy", 3)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    bedrock = aws("bedrock-runtime")
    asked = {"modelId": "amazon.nova", "messages": [{"role": "user", "content": [{"text": "q"}]}]}
    with store.record(task="x") as run, run.step():
        with pytest.raises(bedrock.exceptions.ClientError):
            bedrock.converse(**asked)
        bedrock.converse(**asked)
    found = [(c.text, [r["status_code"] for r in c.record.extra["retries"]]) for c in calls(store, run)]
    assert found == [("", [503]), ("whole", [503])]


def test_every_model_of_bedrock(store: odograph.Store, recorded: None, aws: Callable[[str], Any]) -> None:
    """`InvokeModel` is recorded whoever made the model, also a Claude behind a profile that does not name it; what embeds has that
    purpose. Calls of other AWS services are not, and what else is asked of a model is counted."""
    before = store.health()["unrecorded"]
    claude = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": HI})
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    with store.record(task="x") as run:
        bedrock = aws("bedrock-runtime")
        bedrock.invoke_model(modelId=profile, body=claude)["body"].read()
        bedrock.invoke_model(modelId="amazon.titan-embed-text-v2:0", body='{"inputText": "q"}')["body"].read()
        aws("dynamodb").list_tables()
        assert store.health()["unrecorded"] == before
        bedrock.count_tokens(modelId="amazon.nova", input={"converse": {"messages": []}})
    one, two = calls(store, run)
    assert (one.record.dialect, one.model, one.messages, one.text) == ("bedrock.invoke", profile, HI, "invoked")
    assert (two.record.dialect, two.purpose, two.request) == ("bedrock.invoke", "embed", {"inputText": "q"})
    assert store.health()["unrecorded"] == before + 1


def test_a_response_that_botocore_would_not_make_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Odograph can't read is the program's own, and is counted."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    request = types.SimpleNamespace(method="POST", url="http://a/model/m/converse", headers={}, body=b"{}")
    before, response = faults.faults.count, object()
    assert botocore.passed(request, lambda: response) is response
    assert faults.faults.count == before + 1


def test_the_client_of_hugging_face(store: odograph.Store, recorded: None) -> None:
    """`InferenceClient` is recorded, sync, async and streamed; a task of its own format is counted."""
    hub = pytest.importorskip("huggingface_hub")

    async def asked() -> None:
        async with hub.AsyncInferenceClient(base_url=server.url + "/v1", api_key="x") as client:
            await client.chat_completion(HI)
            async for _ in await client.chat_completion(HI, stream=True):
                pass

    with LLMServer([Answer(text="yo")] * 4 + [Answer(status=404)]) as server:
        client = hub.InferenceClient(base_url=server.url + "/v1", api_key="x")
        with store.record(task="x") as run:
            client.chat_completion(HI)
            list(client.chat_completion(HI, stream=True))
            asyncio.run(asked())
        assert [(c.text, c.error) for c in calls(store, run)] == [("yo", None)] * 4
        before = store.health()["unrecorded"]
        with pytest.raises(hub.errors.HfHubHTTPError):
            hub.InferenceClient(model=server.url, api_key="x").text_generation("q")
        assert store.health()["unrecorded"] == before + 1
        odograph.uninstrument()
        with store.record(task="off") as run, pytest.raises(hub.errors.HfHubHTTPError):
            client.chat_completion(HI)
        assert not calls(store, run)


def _groq(url: str) -> Any:
    return pytest.importorskip("groq").Groq(base_url=url, api_key="x").chat.completions.create(model="m", messages=HI)


def _together(url: str) -> Any:
    return pytest.importorskip("together").Together(base_url=url, api_key="x").chat.completions.create(model="m", messages=HI)


def _fireworks(url: str) -> Any:
    return pytest.importorskip("fireworks").Fireworks(base_url=url, api_key="x").chat.completions.create(model="m", messages=HI)


def _mistral(url: str) -> Any:
    client = pytest.importorskip("mistralai.client").Mistral(api_key="x", server_url=url)
    with client.chat.stream(model="m", messages=HI) as events:
        return list(events)


@pytest.mark.parametrize("ask", [_groq, _together, _fireworks, _mistral])
def test_sdks_that_speak_as_openai_does(store: odograph.Store, recorded: None, ask: Any) -> None:
    """SDKs of others over httpx, where they are installed, are recorded as openai's is."""
    with LLMServer([Answer(text="yo")]) as server, store.record(task="x") as run:
        ask(server.url)
    assert [(c.text, c.error) for c in calls(store, run)] == [("yo", None)]


#: How clients of SDKs that are not installed here pass their requests on: through a method that is given the client of httpx, or
#: that may be.
_SHAPES = {
    "mistralai.client.basesdk": """
        class BaseSDK:
            def _build_request_with_client(self, client, method, url, body):
                return client.build_request(method, url, json=body)
            def ask(self, client, url, body):
                return client.send(self._build_request_with_client(client, "POST", url, body))
    """,
    "litellm.llms.custom_httpx.http_handler": """
        class HTTPHandler:
            def __init__(self):
                self.client = httpx.Client()
            def post(self, url, json, client=None):
                return (client or self.client).post(url, json=json)
            def ask(self, client, url, body):
                return [self.post(url, body), self.post(url, body, client=client)][0]
    """,
}


def test_a_client_that_stands_on_another_http_library_is_counted(store: odograph.Store, recorded: None) -> None:
    """The SDK's method passes it, and nothing in it can be recorded."""
    before = store.health()["unrecorded"]
    instrument._met(types.SimpleNamespace(_client=object()))
    assert store.health()["unrecorded"] == before + 1


@pytest.mark.parametrize(("name", "texts"), [*zip(_SHAPES, (["yo"], ["yo", "yo"]), strict=True)])
def test_sdks_whose_client_is_given_with_each_request(
    store: odograph.Store, recorded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, texts: list[str]
) -> None:
    """A client of httpx is recorded that an SDK passes on to a method of its own, and the answer is the SDK's."""
    for part in [name.rsplit(".", n)[0] for n in range(name.count(".") + 1)]:
        monkeypatch.setitem(sys.modules, part, None)  # at the end it is what it was
        monkeypatch.delitem(sys.modules, part)
    file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True)
    file.write_text("import httpx\n" + textwrap.dedent(_SHAPES[name]))
    monkeypatch.syspath_prepend(tmp_path)
    owner = next(one for one in vars(importlib.import_module(name)).values() if isinstance(one, type))
    with LLMServer([Answer(text="yo")] * 2) as server, store.record(task="x") as run, httpx.Client() as client:
        answer = owner().ask(client, server.url + "/v1/chat/completions", {"model": "m", "messages": HI})
    assert answer.json()["choices"][0]["message"]["content"] == "yo"
    assert [c.text for c in calls(store, run)] == texts


def test_the_client_inside_of_dspy(store: odograph.Store, recorded: None) -> None:
    """lm15 makes its connections itself: its calls, streams, failures and left streams are recorded, sync and async. What is no
    call of a model passes, and is counted where it may be one."""

    def request(
        stream: bool = False, path: str = "/v1/chat/completions", method: str = "POST"
    ) -> lm15.transports.TransportRequest:
        body = json.dumps({"model": "m", "messages": HI, "stream": stream}).encode() if method == "POST" else b""
        return lm15.transports.TransportRequest(method, server.url + path, [("Content-Type", "a/b")], body)

    async def asked() -> None:
        async with lm15.transports.StdlibAsyncTransport(max_connections=1, pool_timeout=60.0) as client:
            for stream in (False, True):  # the one connection goes back
                async with client.stream(request(stream)) as response:
                    assert b"yo" in await response.read()
            async with client.stream(request(path="/v1/models", method="GET")) as response:
                await response.read()

    answers = [Answer(text="yo")] * 5 + [Answer(text="too much", status=429), Answer(status=404)]
    with LLMServer(answers) as server, store.record(task="x") as run:
        before = store.health()["unrecorded"]
        with lm15.transports.StdlibTransport() as client:
            for stream in (False, True):
                with client.stream(request(stream)) as response:
                    assert b"yo" in response.read()
            asyncio.run(asked())
            with client.stream(request(True)) as response:
                next(iter(response))
            with client.stream(request()) as response:
                assert response.status == 429
                response.read()
            assert store.health()["unrecorded"] == before
            with client.stream(request(path="/v1/moderations")) as response:
                response.read()
            assert store.health()["unrecorded"] == before + 1
    found = calls(store, run)
    assert [c.text for c in found[:4]] == ["yo"] * 4
    assert [c.error for c in found] == [None] * 4 + ["stream abandoned", "HTTP 429"]
    assert {c.request["model"] for c in found} == {"m"}
    odograph.uninstrument()
    with LLMServer([Answer(text="yo")]) as server, store.record(task="off") as run:
        with lm15.transports.StdlibTransport() as client, client.stream(request()) as response:
            response.read()
    assert not calls(store, run)


FOUND = """
import importlib.machinery, sys, odograph
class Finder:
    find_spec = importlib.machinery.PathFinder.find_spec
sys.meta_path.insert(0, Finder)
odograph.instrument()
import openai
with odograph.open(sys.argv[1]) as store:
    with store.record(task="x") as run:
        openai.OpenAI(base_url=sys.argv[2], api_key="x").chat.completions.create(model="m", messages=[])
    print([call.text for call in store.trajectory(run.id).llm_calls])
"""


def test_an_sdk_that_a_finder_of_the_programs_own_imports(tmp_path: Path) -> None:
    """Whoever finds the SDK's files (an editable install, a test runner), its clients are recorded."""
    with LLMServer([Answer(text="yo")]) as server:
        done = ran(FOUND, str(tmp_path / "s"), server.url + "/v1")
    assert done.stdout == "['yo']\n", done.stderr
    assert "logprobs" not in server.requests[0][1]  # nobody asked for tokens


FIXED = """
import os, sys, odograph
os.makedirs(sys.argv[1] + "/mistralai")
with open(sys.argv[1] + "/mistralai/basesdk.py", "w") as file:
    file.write('''
class Fixed(type):
    def __setattr__(cls, name, value):
        raise AttributeError("fixed")
class BaseSDK(metaclass=Fixed):
    def _build_request_with_client(self):
        return "theirs"
''')
sys.path.insert(0, sys.argv[1])
odograph.instrument()
from mistralai.basesdk import BaseSDK
with odograph.open("memory:") as store:
    print(BaseSDK()._build_request_with_client(), store.health()["faults"])
"""


SLOTTED = """
import sys, odograph
from importlib.machinery import ModuleSpec
class Loader:
    __slots__ = ()
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.BaseSDK = type("BaseSDK", (), {"_build_request_with_client": lambda self: "theirs"})
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("mistralai", "mistralai.basesdk"):
            return ModuleSpec(name, Loader(), is_package=name == "mistralai")
sys.meta_path.insert(0, Finder())
odograph.instrument()
from mistralai.basesdk import BaseSDK
with odograph.open("memory:") as store:
    print(BaseSDK()._build_request_with_client(), store.health()["faults"])
"""


@pytest.mark.parametrize("program", [FIXED, SLOTTED], ids=["a class that can't be changed", "a loader that can't be changed"])
def test_an_sdk_that_lets_nobody_in_is_imported_all_the_same(program: str, tmp_path: Path) -> None:
    """Its classes stay what they are, and a fault is counted."""
    done = ran(program, str(tmp_path))
    assert done.stdout == "theirs 1\n", done.stderr


def test_what_another_keeps_of_ours_passes_on(store: odograph.Store) -> None:
    """Who took a method while it was recorded, and calls it afterwards, has the SDK's own."""

    class SDK:
        _client = None

        def plain(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        async def later(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    one, before = SDK(), store.health()
    for around in (instrument._connecting, instrument._counting, instrument._sending, instrument._meeting):
        assert around(SDK.plain)(one, 1, a=2) == ((1,), {"a": 2})
    assert instrument._meeting_given(SDK.plain)(one, one, a=2) == ((one,), {"a": 2})
    assert instrument._meeting_handler(SDK.plain)(one, 1, client=one) == ((1,), {"client": one})
    assert instrument._streaming(SDK.plain)(one, 1) == ((1,), {})
    assert asyncio.run(instrument._streaming_async(SDK.later)(one, 1)) == ((1,), {})
    assert asyncio.run(instrument._meeting_opened(SDK.later)(one)) == ((), {})
    assert store.health() == before


def test_threads(store: odograph.Store) -> None:
    """With `threads=True` a thread and a pool's task belong to the run that they were started in; a pool's next task does not."""

    def work() -> None:
        odograph.log_llm_call(model="m", user_prompt="q", response="a")

    odograph.instrument(threads=True)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with store.record(task="x") as run:
                pool.submit(work).result()
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            with store.record(task="y") as other:
                pool.submit(work).result()
            assert pool.submit(odograph.current).result() is None
    finally:
        odograph.uninstrument()
    assert len(calls(store, run)) == 2
    assert len(calls(store, other)) == 1


def test_a_thread_that_lost_the_run_is_told_of_once(tmp_path: Path) -> None:
    """A call in a thread outside of the run that is open is warned of once, and counted; without an open run nobody minds."""
    code = f"""
import warnings, threading, odograph
from concurrent.futures import ThreadPoolExecutor
store = odograph.open({str(tmp_path / "s")!r})
def work(): odograph.log_llm_call(model="m", user_prompt="q", response="a")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    thread = threading.Thread(target=work); thread.start(); thread.join()
    assert not said
    with store.record(task="x") as run:
        work()
        with ThreadPoolExecutor(1) as pool: pool.submit(work).result(); pool.submit(work).result()
print(len(said), "odograph.bind" in str(said[0].message), "concurrent.futures" in str(said[0].message), store.health()["outside"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "True", "True", "2"], done.stderr


def test_a_greenlet_that_lost_the_run_is_told_of_once(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A greenlet, as of gevent, does not know the run of who started it: that is told of as of a thread, and `bind` is the way."""
    greenlet = pytest.importorskip("greenlet")
    monkeypatch.setattr(faults.faults, "outside", 0)

    def work() -> None:
        odograph.log_llm_call(model="m", user_prompt="q", response="a")

    greenlet.greenlet(work).switch()
    assert faults.faults.outside == 0
    with store.record(task="x") as run:
        with pytest.warns(RuntimeWarning, match="a call outside of any run, in a greenlet, while a run is open in another one"):
            greenlet.greenlet(work).switch()
        assert faults.faults.outside == 1
        greenlet.greenlet(odograph.bind(work)).switch()
        work()

        def own() -> None:
            with store.record(task="y"):
                work()

        greenlet.greenlet(own).switch()
    assert faults.faults.outside == 1
    assert len(calls(store, run)) == 2

    def waiting() -> None:
        with store.record(task="z"):
            greenlet.getcurrent().parent.switch()

    other = greenlet.greenlet(waiting)
    other.switch()
    greenlet.greenlet(work).switch()  # neither of the two is the first one of the thread
    assert faults.faults.outside == 2
    other.switch()


def test_what_is_asked_for_later_comes_in_addition(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `instrument` leaves what the first one asked for; threads belong to a run only where one of them says so."""
    monkeypatch.setattr(instrument, "_state", instrument._State())  # as in a new process
    asked: list[dict[str, Any]] = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        asked.append(json.loads(body))
        return 200, {"content-type": "application/json"}, {"choices": []}

    def within() -> bool:
        found: list[Any] = []
        with store.record(task="t"):
            thread = threading.Thread(target=lambda: found.append(odograph.current()))
            thread.start()
            thread.join()
        return found[0] is not None

    try:
        odograph.instrument(tokens=True)
        odograph.instrument()
        with serving(answer) as url:
            openai.OpenAI(base_url=url + "/v1", api_key="x").chat.completions.create(model="m", messages=HI)
        assert "logprobs" in asked[0]
        assert not within()
        odograph.instrument(threads=True)
        odograph.instrument()
        assert within()
    finally:
        odograph.uninstrument()
    assert not within()


def test_copies_of_a_wrapped_client(store: odograph.Store) -> None:
    """`with_options` and `copy` of a wrapped client give recorded ones, of the same class, and copies of these too."""
    with LLMServer([Answer()]) as server:
        client = odograph.wrap(chat(server))
        assert type(client).__name__ == "OpenAI"
        assert isinstance(client, openai.OpenAI)
        own = client.with_options(http_client=openai.DefaultHttpxClient(timeout=5))
        with store.record(task="x") as run:
            ask(own)
            ask(own.copy(timeout=3))
            ask(client.with_options(timeout=3))
    assert len(calls(store, run)) == 3


def test_what_passes_unrecorded_is_counted(store: odograph.Store) -> None:
    """A request of a wrapped client that is no call of a model is counted in `health`."""
    before = store.health()["unrecorded"]
    with LLMServer([Answer(status=404)]) as server:
        client = odograph.wrap(chat(server))
        with pytest.raises(openai.NotFoundError):
            client.moderations.create(input="x")
    assert store.health()["unrecorded"] == before + 1


@pytest.mark.parametrize("door", ["wrap", "instrument", "both"])
def test_sockets_that_no_dialect_knows_are_counted(store: odograph.Store, door: str) -> None:
    """A connection of OpenAI's realtime API or of Google's Live API is counted once, whichever door the client came by."""
    genai = pytest.importorskip("google.genai")
    if door != "wrap":
        odograph.instrument()
    try:
        one, two = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x"), genai.Client(api_key="x")
        if door != "instrument":
            odograph.wrap(one)
            odograph.wrap(two)
        before = store.health()["unrecorded"]
        assert type(one.realtime.connect(model="m")).__name__ == "RealtimeConnectionManager"
        assert hasattr(two.aio.live.connect(model="g"), "__aenter__")
        assert store.health()["unrecorded"] == before + 2
    finally:
        odograph.uninstrument()


def test_what_wrap_cant_take_says_where_to_go() -> None:
    """A client that `wrap` does not know is refused, with what records it."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with pytest.raises(TypeError, match=r"; odograph\.instrument\(\) records what it calls$"):
        odograph.wrap(client)

    class Chat:
        root_client = openai.OpenAI(base_url="http://127.0.0.1:9", api_key="x")

    with pytest.raises(TypeError, match=r"wrap its \.root_client"):
        odograph.wrap(Chat())

    class Ollama:
        _client = httpx.Client()

    with pytest.raises(TypeError, match=r"wrap\(client, dialect=\.\.\.\)"):
        odograph.wrap(Ollama())

    class Client:
        """Of another HTTP library."""

        client = object()

    with pytest.raises(TypeError, match=r"Client; odograph\.instrument\(\) records what openai, anthropic"):
        odograph.wrap(Client())


def test_responses_over_a_websocket(store: odograph.Store) -> None:
    """Each response that comes over a WebSocket is a call; a later one holds the history that its predecessor stands for."""
    server = pytest.importorskip("websockets.sync.server")
    number = [0]

    def answer(socket: Any) -> None:
        for _ in socket:
            number[0] += 1
            part = {"type": "output_text", "text": f"a{number[0]}", "annotations": []}
            message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
            response = {"id": f"r{number[0]}", "object": "response", "model": "m", "status": "completed", "output": [message]}
            socket.send(json.dumps({"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}))
            socket.send(json.dumps({"type": "response.completed", "response": response}))

    with server.serve(answer, "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{serving.socket.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=f"http://{url}", websocket_base_url=f"ws://{url}", api_key="x")
        client = odograph.wrap(odograph.wrap(client))  # twice is once
        if not hasattr(client.responses, "connect"):
            pytest.skip("this openai SDK has no WebSockets")
        with store.record(task="x") as run, client.responses.connect() as socket:
            for asked in ({"input": "q1"}, {"input": "q2", "previous_response_id": "r1"}):
                socket.response.create(model="m", **asked)
                for event in socket:
                    if event.type == "response.completed":
                        break
        serving.shutdown()
    first, second = calls(store, run)
    assert (first.text, first.record.error, second.text) == ("a1", None, "a2")
    assert [m["content"] for m in second.messages] == ["q1", "a1", "q2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert second.record.dialect == "openai.responses"


@pytest.mark.parametrize("who", ["server", "client"])
@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_websocket_that_ends_in_the_middle_of_a_call(store: odograph.Store, kind: type[Any], who: str) -> None:
    """The call is recorded with what came and with an error, whichever side closes; what was only sent ahead is no call."""
    server = pytest.importorskip("websockets.sync.server")
    closed = pytest.importorskip("websockets").ConnectionClosed

    def answer(socket: Any) -> None:
        for _, sent in zip(range(2), socket, strict=False):
            response = {"id": "r", "object": "response", "model": "m", "output": []}
            socket.send(json.dumps({"type": "response.created", "response": {**response, "status": "in_progress"}}))
            if json.loads(sent).get("generate") is False:
                socket.send(json.dumps({"type": "response.completed", "response": {**response, "status": "completed"}}))
        if who == "client":
            list(socket)  # until it closes

    async def got(made: Any) -> Any:
        return await made if inspect.isawaitable(made) else made

    async def talk(client: Any) -> None:
        socket = await got(client.responses.connect().enter())
        await got(socket.send({"type": "response.create", "model": "m", "input": "ahead", "generate": False}))
        await got(socket.recv())
        await got(socket.recv())
        await got(socket.response.create(model="m", input="q"))
        await got(socket.recv())
        if who == "client" and kind is openai.OpenAI:
            with pytest.raises(TimeoutError):  # which ends no call
                socket._connection.recv(timeout=0)
        if who == "server":
            with pytest.raises(closed):
                await got(socket.recv())
            assert calls(store, run)[0].record.error["type"].endswith("ConnectionClosedOK")
        assert socket._connection.protocol is not None  # all else is the socket's own
        await got(socket.close())

    with server.serve(answer, "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{serving.socket.getsockname()[1]}/v1"
        client = odograph.wrap(kind(base_url=f"http://{url}", websocket_base_url=f"ws://{url}", api_key="x"))
        with store.record(task="x") as run:
            asyncio.run(talk(client))
            (call,) = calls(store, run)  # at once, and not when the run ends
        serving.shutdown()
    assert [m["content"] for m in call.messages] == ["q"]
    assert call.record.error is not None


def test_tools_of_openai_agents_by_its_own_tracing(
    store: odograph.Store, recorded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace processor in docs/recording.md records each tool once, beside the model calls that `instrument` records."""
    agents = pytest.importorskip("agents")
    page = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "TracingProcessor" in code]
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    asked = Answer(text="", tool_calls=[{"id": "c1", "type": "function", "function": function}])
    with LLMServer([asked, Answer(text="sunny")]) as server:
        try:
            exec(snippet, {})
            monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "0")

            def weather(city: str) -> str:
                return f"sunny in {city}"

            client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x")
            model = agents.OpenAIChatCompletionsModel("m", client)
            agent = agents.Agent(name="a", instructions="i", tools=[agents.function_tool(weather)], model=model)
            with store.record(task="x") as run:
                found = asyncio.run(agents.Runner.run(agent, "q")).final_output
        finally:
            agents.set_trace_processors([])
    assert found == "sunny"
    t = store.trajectory(run.id)
    assert [(a.name, a.arguments, a.result) for a in t.actions] == [("weather", {"city": "Paris"}, "sunny in Paris")]
    assert len(t.llm_calls) == 2
