"""Who may pass the proxy, what never reaches the store, and what ends well."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from aiohttp import web

import odograph
from odograph import dialects
from odograph.errors import InvalidInput
from odograph.proxy.server import Limits
from odograph.proxy.service import Proxy
from tests.proxy.test_passing import CHAT, one, post
from tests.proxy.wire import END, Wire, chat_body, chat_chunk, chunk, events, head_of, json_answer
from tests.waiting import until

PATH = "/v1/chat/completions"
TOKEN = "a-token-of-more-than-16"


def status(url: str, path: str = PATH, **headers: str) -> int:
    return post(url, path, CHAT, **headers)[0]


def control(url: str, command: str, body: dict[str, Any] | None = None, token: str = TOKEN) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/odograph/{command}", data, {"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    return json.loads(text) if command != "metrics" else text


def test_pages_and_foreign_names_are_refused(store: odograph.Store) -> None:
    """A page in a browser (Origin) and a name that points to this machine (Host) get 403 before anything is routed, WebSockets too."""

    async def upgrade(url: str) -> int:
        async with aiohttp.ClientSession() as client:
            try:
                await client.ws_connect(url + "/v1/responses", headers={"origin": "http://evil.example"})
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 101

    with (
        Wire(lambda head, body: json_answer(chat_body())) as up,
        Proxy(store, [up.url], hosts=["proxy.lan"], origins=["http://mine"]) as proxy,
    ):
        assert [
            status(proxy.url, host=h)
            for h in ("localhost", "127.0.0.1:99", "[::1]:8", "proxy.lan:1", "evil.example", "localhost.evil")
        ] == [200] * 4 + [403] * 2
        assert [status(proxy.url, origin=o) for o in ("http://mine", "http://evil.example", "null")] == [200, 403, 403]
        assert [
            status(proxy.url, "/odograph/pause", origin="http://evil.example"),
            status(proxy.url, "/t/r/-" + PATH, host="evil.example"),
        ] == [403, 403]
        assert asyncio.run(upgrade(proxy.url)) == 403
        assert len(up.got) == 5


def test_beyond_this_machine_only_with_a_token(store: odograph.Store) -> None:
    """Listening on other addresses needs a token of some length. Then nobody passes without it, and it never goes upstream."""
    with pytest.raises(InvalidInput, match="token"):
        Proxy(store, ["http://x"], host="0.0.0.0")
    with pytest.raises(InvalidInput, match="16"):
        Proxy(store, ["http://x"], token="short")
    with (
        Wire(lambda head, body: json_answer(chat_body())) as up,
        Proxy(store, [up.url], host="0.0.0.0", token=TOKEN, key="upstream-key") as proxy,
    ):
        url = proxy.url.replace("0.0.0.0", "127.0.0.1")
        assert [status(url), status(url, authorization="Bearer wrong"), status(url, x_api_key="wrong")] == [401, 401, 401]
        assert [
            status(url, authorization=f"Bearer {TOKEN}"),
            status(url, x_api_key=TOKEN),
            status(url, PATH + f"?a=1&key={TOKEN}"),
        ] == [200] * 3
    assert not any(TOKEN.encode() in head for head, _ in up.got)
    assert all(b"upstream-key" in head for head, _ in up.got) and up.got[2][0].startswith(b"POST /v1/chat/completions?a=1 ")


def test_a_key_of_ours_goes_nowhere(store: odograph.Store) -> None:
    """Without a key for the upstream, a token or a ticket that a client sent as its key is left out; any other key passes."""
    with Wire(lambda head, body: json_answer(chat_body())) as up, Proxy(store, [up.url], token=TOKEN) as proxy:
        ticket = proxy.ticket("r")
        for key in (TOKEN, ticket):
            assert [status(proxy.url, authorization=f"Bearer {key}"), status(proxy.url, x_goog_api_key=key)] == [200, 200]
        assert status(proxy.url, f"/t/{ticket}{PATH}", authorization="Bearer of-the-provider") == 200
    heads = b"".join(head for head, _ in up.got)
    assert TOKEN.encode() not in heads and ticket.encode() not in heads and heads.count(b"of-the-provider") == 1


def test_a_ticket_keeps_others_out_of_a_run(store: odograph.Store) -> None:
    """A rollout's secret, in its address or as its key, records in its run; without it nobody gets into that run, with it into no other."""
    with Wire(lambda head, body: json_answer(chat_body())) as up, Proxy(store, [up.url], key="real") as proxy:
        url = proxy.rollout("r1", group="g", task={"id": 1}, policy_version=4)
        ticket = url.rpartition("/")[2]
        path = "/t/" + ticket
        assert [status(proxy.url, path + PATH), status(proxy.url, PATH, authorization=f"Bearer {ticket}")] == [200, 200]
        assert [
            status(proxy.url, "/t/r1" + PATH),
            status(proxy.url, "/t/r2" + PATH, authorization=f"Bearer {ticket}"),
            status(proxy.url, path + "/group/h" + PATH),
            status(proxy.url, "/t/odo-guessed" + PATH),
        ] == [403] * 4
        assert status(proxy.url, path + "/agent/helper" + PATH) == 200
        id = proxy.end("r1", status="failed")
        assert [
            status(proxy.url, path + PATH),
            status(proxy.url, PATH, authorization=f"Bearer {ticket}"),
            status(proxy.url, PATH, authorization="Bearer odo-guessed"),
            status(proxy.url, "/t/r9" + PATH, x_api_key=ticket),
        ] == [403] * 4
    assert not any(ticket.encode() in head for head, _ in up.got)
    t = one(store)
    assert (t.id, t.group, t.task, t.metadata["run"], t.status, len(t.llm_calls)) == (id, "g", {"id": 1}, "r1", "failed", 3)
    assert {c.policy_version for c in t.llm_calls} == {4} and {s.agent for s in t.steps} == {None, "helper"}


def test_an_end_of_one_attempt_leaves_the_others_in(store: odograph.Store) -> None:
    """Attempts of a run end one by one; an end that names no attempt ends the tickets of all."""
    with Wire(lambda head, body: json_answer(chat_body())) as up, Proxy(store, [up.url]) as proxy:
        first, second = (f"/t/{proxy.ticket('r', attempt=n)}{PATH}" for n in (1, 2))
        assert [status(proxy.url, first), status(proxy.url, second)] == [200, 200]
        assert proxy.end("r", attempt=1) is not None
        assert [status(proxy.url, first), status(proxy.url, second)] == [403, 200]
        proxy.end("r")
        assert status(proxy.url, second) == 403


def test_a_call_under_way_does_not_undo_the_end_of_its_run(store: odograph.Store) -> None:
    """A run that a trainer ended as failed stays so, when the answer of a call comes that was under way then. The call is recorded."""
    asked, go = threading.Event(), threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        asked.set()
        go.wait(30)
        return json_answer(chat_body())

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        path = f"/t/{proxy.ticket('r')}{PATH}"
        go.set()
        assert status(proxy.url, path) == 200
        go.clear(), asked.clear()
        late = threading.Thread(target=status, args=(proxy.url, path))
        late.start()
        asked.wait(30)
        proxy.end("r", status="failed", error="too slow")
        go.set()
        late.join()
    t = one(store)
    assert (len(t.llm_calls), t.status, t.end.error if t.end else None) == (2, "failed", "too slow")


def test_no_request_names_an_upstream(store: odograph.Store) -> None:
    """A whole URL, two slashes or an @ in the target lead nowhere but to the upstream; control without a token is refused."""
    from tests.proxy.test_passing import raw

    with Wire(lambda head, body: [head_of(2) + b"ok"]) as up, Proxy(store, [up.url]) as proxy:
        assert raw(proxy.url, b"GET http://evil.example/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 400"
        )
        for target in (b"//evil.example/x", b"/@evil.example/x", b"/t/r/-//evil.example/x"):
            assert raw(proxy.url, b"GET " + target + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").startswith(
                b"HTTP/1.1 200"
            )
        # out of the upstream's own path; and what the upstream would get as another path than the one that was looked at
        for target in (
            b"/../x",
            b"/v1/%2E./x",
            b"/t/r/-/../x",
            b"/t/../../x",
            b"/v1/..%2Fx",
            b"/v1/x%5c..",
            b"/v1/chat/completions#x",
        ):
            assert raw(proxy.url, b"GET " + target + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").startswith(
                b"HTTP/1.1 400"
            )
        assert status(proxy.url, "/odograph/runs") == 403
    assert [head.split()[1] for head, _ in up.got] == [b"//evil.example/x", b"/@evil.example/x", b"//evil.example/x"]


def test_keys_and_headers_are_not_stored_and_secrets_are_redacted(tmp_path: Path) -> None:
    """No header and no key reaches the store; with redaction neither does a secret in a message, in a task or in an address."""
    secret = "sk-ant-api03-" + "A1b2C3d4E5" * 9
    sent = json.dumps({"model": "m", "messages": [{"role": "user", "content": f"use {secret}"}]}).encode()
    with odograph.open(tmp_path / "s", redact=True) as store:
        with Wire(lambda head, body: json_answer(chat_body(f"I used {secret}"))) as up, Proxy(store, [up.url]) as proxy:
            assert (
                post(proxy.url, f"/t/r/task/{secret}{PATH}", sent, authorization=f"Bearer {secret}x", x_private="header-value")[0]
                == 200
            )
            assert secret.encode() in up.got[0][1]
    stored = b"".join(f.read_bytes() for f in (tmp_path / "s").rglob("*") if f.is_file())
    assert b"redacted:" in stored and secret.encode() not in stored and b"header-value" not in stored


def test_trainers_pause_resume_and_drain(store: odograph.Store) -> None:
    """While weights change, new calls get 503 with Retry-After, running ones end; the SDK waits; versions stand in the records."""
    go = threading.Event()
    ids = [dict(chat_chunk(c, token_ids=[n])) for n, c in enumerate("ab")]

    def script(head: bytes, body: bytes) -> Any:
        if b'"stream"' not in body:
            yield from json_answer(chat_body())
            return
        yield head_of(None, "text/event-stream") + chunk(events(ids[:1], done=False)[0])
        go.wait()
        for event in events([ids[1], chat_chunk(None, "stop")]):
            yield chunk(event)
        yield END

    with Wire(script) as up, Proxy(store, [up.url], token=TOKEN, policy=1) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/t/r/v1", api_key=TOKEN)
        user: Any = [{"role": "user", "content": "q"}]
        stream = iter(client.chat.completions.create(model="m", messages=user, stream=True))
        next(stream)
        assert control(proxy.url, "drain", {"seconds": 0.05}) == {"drained": False, "in_flight": 1}
        code, headers, _ = post(proxy.url, PATH, CHAT, authorization=f"Bearer {TOKEN}")
        assert (code, headers["retry-after"]) == (503, "1")
        control(proxy.url, "policy", {"version": 2})
        go.set()
        list(stream)
        assert control(proxy.url, "drain", {}) == {"drained": True, "in_flight": 0}
        threading.Timer(0.2, control, (proxy.url, "resume", {"version": 3})).start()
        assert client.chat.completions.create(model="m", messages=user).choices[0].message.content == "Paris"
        assert 'event="refused",what="paused"' in control(proxy.url, "metrics")
        assert control(proxy.url, "health")["policy"] == 3
        ticket = control(proxy.url, "runs", {"run": "r2", "group": "g"})
        assert status(proxy.url, "/t/" + ticket["ticket"] + PATH) == 200
        assert control(proxy.url, "end", {"run": "r2", "status": "truncated"})["trajectory"]
    first, second = next(store.trajectories()).llm_calls
    assert (first.policy_version, first.tokens[0].versions, first.choices[0].token_ids) == (1, [(0, 1), (1, 2)], [0, 1])
    assert second.policy_version == 3 and [t.status for t in store.trajectories(group="g")] == ["truncated"]


def test_an_answer_that_comes_whole_has_no_version_of_its_middle(store: odograph.Store) -> None:
    """Weights that change while a backend answers: of a stream each run of tokens has its version, none is empty. Of an answer that
    comes whole nobody knows which tokens came before; its record has the version that it began with, and the last."""
    asked, go = threading.Semaphore(0), threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        parts = [chat_chunk(None, token_ids=[n]) for n in range(2)]
        streams = b'"stream"' in body
        if streams:
            yield head_of(None, "text/event-stream") + chunk(b"".join(events(parts, done=False)))
        asked.release()
        go.wait(30)
        yield from (
            [chunk(b"".join(events([chat_chunk(None, "stop", token_ids=[9])]))), END] if streams else json_answer(chat_body())
        )

    with Wire(script) as up, Proxy(store, [up.url], policy=1) as proxy:
        whole = threading.Thread(target=post, args=(proxy.url, f"/t/whole{PATH}", CHAT))
        whole.start()
        asked.acquire()
        client = openai.OpenAI(base_url=proxy.url + "/t/stream/v1", api_key="k")
        stream = iter(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}], stream=True))
        next(stream), next(stream)
        proxy.set_policy(2)
        proxy.set_policy(3)
        go.set()
        list(stream)
        whole.join()
    calls = {t.metadata["run"]: t.llm_calls[0] for t in store.trajectories()}
    assert (calls["stream"].policy_version, calls["stream"].tokens[0].versions) == (1, [(0, 1), (2, 3)])
    assert (calls["whole"].policy_version, calls["whole"].extra) == (1, {"policy_version_after": 3})


def test_an_agent_keeps_the_ids_that_it_asked_for() -> None:
    """vLLM's one field brings prompt and answer, SGLang's two bring one each: what the agent asked for stays, whatever was added."""
    dialect = dialects.get("openai.chat")
    body = {"prompt_token_ids": [1], "choices": [{"index": 0, "token_ids": [2], "meta_info": {}, "logprobs": None}]}
    for own, kept in (
        ({}, set()),
        ({"return_token_ids"}, {"prompt_token_ids", "token_ids"}),
        ({"return_prompt_token_ids"}, {"prompt_token_ids"}),
    ):
        added = {name: True for name in dialect.asking_tokens(False) if name not in own}
        left = dialect.unasked(body, added)
        assert {*left, *left["choices"][0]} == {"choices", "index", "logprobs", *kept}
    event = {"object": "chat.completion.chunk", **body}
    added = dialect.asking_tokens(True)
    assert "prompt_token_ids" not in dialect.unasked(event, added)
    del added["return_token_ids"]
    assert dialect.unasked(event, added)["prompt_token_ids"] == [1]


def test_tokens_are_asked_for_and_taken_out_again(store: odograph.Store) -> None:
    """With `tokens` the record has ids and logprobs, and the agent an answer without them; a backend that refuses is asked no more."""
    asked: list[dict[str, Any]] = []

    def script(head: bytes, body: bytes) -> Any:
        request = json.loads(body)
        asked.append(request)
        if "return_token_ids" in request and b"/t400/" in head:
            return [head_of(2, status="400 Bad Request") + b"{}"]
        more = (
            {"token_ids": [5], "logprobs": {"content": [{"token": "P", "logprob": -0.5}]}}
            if "return_token_ids" in request
            else {}
        )
        if request.get("stream"):
            parts = [{**chat_chunk("P", **more), "prompt_token_ids": [1, 2]}, chat_chunk(None, "stop")]
            return [head_of(None, "text/event-stream"), *map(chunk, events(parts)), END]
        whole = chat_body("P", prompt_token_ids=[1, 2])
        whole["choices"][0] |= more
        return json_answer(whole)

    with Wire(script) as up, Proxy(store, [up.url], tokens=True) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/t/r/v1", api_key="k")
        user: Any = [{"role": "user", "content": "q"}]
        whole = client.chat.completions.create(model="m", messages=user)
        parts = list(client.chat.completions.create(model="m", messages=user, stream=True))
        own = client.chat.completions.create(model="m", messages=user, logprobs=True)
        for run in ("/t400/v1", "/t400/v1"):
            openai.OpenAI(base_url=proxy.url + run, api_key="k").chat.completions.create(model="m", messages=user)
    assert whole.choices[0].message.content == "P" and whole.choices[0].logprobs is None
    assert not {"token_ids", "prompt_token_ids"} & {*whole.to_dict(), *whole.to_dict()["choices"][0]}  # type: ignore[index]
    assert all(not {"token_ids"} & {*p.to_dict()["choices"][0]} and "prompt_token_ids" not in p.to_dict() for p in parts)  # type: ignore[index]
    assert own.choices[0].logprobs is not None and "token_ids" not in own.to_dict()["choices"][0]  # type: ignore[index]
    first, *rest = store.trajectories()
    assert [(c.prompt_token_ids, c.choices[0].token_ids, c.choices[0].logprobs) for c in first.llm_calls] == [
        ([1, 2], [5], [-0.5])
    ] * 3
    assert len(asked) == 6 and "return_token_ids" not in asked[5]
    assert rest[0].llm_calls[0].extra["retries"][0]["status_code"] == 400


def test_runs_stick_to_their_upstream(store: odograph.Store) -> None:
    """Of several upstreams each run keeps the one that it began with; one that is gone is left for another."""
    with Wire(lambda h, b: json_answer(chat_body("1"))) as a, Wire(lambda h, b: json_answer(chat_body("2"))) as b:
        with Proxy(store, [a.url, b.url]) as proxy:
            for run in "xyz" * 4:
                assert status(proxy.url, f"/t/{run}{PATH}") == 200
            assert sorted((len(a.got), len(b.got))) == [4, 8]
    assert all(len({c.text for c in t.llm_calls}) == 1 for t in store.trajectories())
    with Wire(lambda h, b: json_answer(chat_body("2"))) as b, Proxy(store, [a.url, b.url]) as proxy:
        assert {status(proxy.url, f"/t/{run}{PATH}") for run in "abc"} == {200} and len(b.got) == 3


def test_an_upstream_that_comes_back_gets_its_share(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an upstream takes no connection, all runs go to another, and are not tried there each time; later it gets new runs."""
    with Wire(lambda h, b: json_answer(chat_body())) as a:
        pass
    port = int(a.url.rpartition(":")[2])
    with Wire(lambda h, b: json_answer(chat_body())) as b, Proxy(store, [a.url, b.url]) as proxy:
        assert {status(proxy.url, f"/t/{run}{PATH}") for run in "abcdef"} == {200} and len(b.got) == 6
        with Wire(lambda h, b: json_answer(chat_body()), port) as a:
            assert {status(proxy.url, f"/t/{run}{PATH}") for run in "gh"} == {200} and not a.got
            monkeypatch.setattr("odograph.proxy.upstreams._DOWN", 0.0)
            assert {status(proxy.url, f"/t/{run}{PATH}") for run in "abcdef"} == {200} and not a.got  # they stay
            assert {status(proxy.url, f"/t/{run}{PATH}") for run in "ijkl"} == {200} and len(a.got) == 4


def test_limits_hold(store: odograph.Store) -> None:
    """More requests at once than allowed get 503, with when to try again."""
    go = threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        go.wait()
        return json_answer(chat_body())

    with Wire(script) as up, Proxy(store, [up.url], limits=Limits(requests=1)) as proxy:
        waiting = threading.Thread(target=status, args=(proxy.url,))
        waiting.start()
        until(lambda: up.got, waiting)
        code, headers, _ = post(proxy.url, PATH, CHAT)
        assert (code, headers["retry-after"]) == (503, "1")
        go.set()
        waiting.join()


def test_who_sends_nothing_more_is_let_go(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose request never comes, and a body that stops in the middle, are closed after a while. Neither is a call. A
    transfer coding that nobody here knows is refused."""
    monkeypatch.setattr("odograph.proxy.server.IDLE", 0.3)
    monkeypatch.setattr("odograph.proxy.server._SILENT_SECONDS", 0.3)
    monkeypatch.setattr(web, "Server", partial(web.Server, lingering_time=0.3))  # it waits 10 s for the rest of a refused body
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"

    def answer(sent: bytes) -> bytes:
        with socket.create_connection((urlsplit(proxy.url).hostname, urlsplit(proxy.url).port)) as client:
            client.sendall(sent)
            return b"".join(iter(lambda: client.recv(65536), b""))  # until the proxy closes

    with Wire(lambda head, body: json_answer(chat_body())) as up, Proxy(store, [up.url]) as proxy:
        assert answer(b"") == answer(head) == b""
        assert answer(head + b"Content-Length: 9\r\n\r\n{").startswith(b"HTTP/1.1 408 ")
        assert answer(head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").startswith(b"HTTP/1.1 501 ")
        assert not up.got
        assert answer(head + b"Content-Length: 9000000\r\n\r\n{").startswith(b"HTTP/1.1 408 ")  # a part of it is upstream
    assert [c.error for t in store.trajectories() for c in t.llm_calls] == []


def test_a_server_takes_the_files_that_it_may_have() -> None:
    """A shell's small limit of open files is raised to what the system allows: each call needs two."""
    code = "import resource as r\nfrom odograph.access import allow_files\nhard = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
    code += "r.setrlimit(r.RLIMIT_NOFILE, (64, hard))\nallow_files()\nprint(r.getrlimit(r.RLIMIT_NOFILE)[0] > 64)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def start(tmp_path: Path, upstream: str, *flags: str) -> tuple[subprocess.Popen[str], str]:
    """`odograph proxy` as a process of its own, and its URL."""
    command = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "proxy", "--upstream", upstream, "--port", "0"]
    command += ["--json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def test_calls_whose_end_was_seen_survive_sigkill(tmp_path: Path) -> None:
    """The proxy is killed with SIGKILL in the middle of traffic: each call whose end a client saw is in the store."""
    seen: list[str] = []

    def script(head: bytes, body: bytes) -> Any:
        parts = events([chat_chunk(json.loads(body)["messages"][0]["content"]), chat_chunk(None, "stop")])
        return [head_of(None, "text/event-stream"), *map(chunk, parts), END]

    def client(url: str, name: int) -> None:
        sdk = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)
        for n in range(10_000):
            text = f"{name}-{n}"
            try:
                for _ in sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], stream=True):
                    pass
            except Exception:  # whatever a killed proxy looks like
                return
            seen.append(text)

    with Wire(script) as up:
        process, url = start(tmp_path, up.url)
        threads = [threading.Thread(target=client, args=(url, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(seen) >= 60, process, *threads)
        process.kill()
        for thread in threads:
            thread.join()
        process.communicate()
    with odograph.open(tmp_path / "s") as store:
        recorded = {c.text for t in store.trajectories() for c in t.llm_calls if c.error is None}
    assert set(seen) <= recorded


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_shutdown_drains(tmp_path: Path, signum: int) -> None:
    """SIGTERM, and a terminal that closes: running calls end and are recorded, new ones are refused, the exit status is 0."""
    go = threading.Event()

    def script(head: bytes, body: bytes) -> Any:
        yield head_of(None, "text/event-stream") + chunk(events([chat_chunk("Pa")], done=False)[0])
        go.wait()
        for event in events([chat_chunk("ris", "stop")]):
            yield chunk(event)
        yield END

    with Wire(script) as up:
        process, url = start(tmp_path, up.url)
        stream = iter(
            openai.OpenAI(base_url=url + "/v1", api_key="k").chat.completions.create(
                model="m", messages=[{"role": "user", "content": "q"}], stream=True
            )
        )
        next(stream)
        process.send_signal(signum)
        time.sleep(0.8)
        assert process.poll() is None
        go.set()
        assert "".join(e.choices[0].delta.content or "" for e in stream) == "ris"
        _, said = process.communicate()
    assert process.returncode == 0 and "1 calls recorded" in said
    with odograph.open(tmp_path / "s") as store:
        assert one(store).llm_calls[0].text == "Paris"


def test_wrong_use_is_one_sentence(tmp_path: Path) -> None:
    """An upstream that is no URL, a port that is taken, a missing key: status 2 and one line."""
    run = [sys.executable, "-m", "odograph", "--store", str(tmp_path / "s"), "proxy"]
    for flags, said in (
        (["--upstream", "ftp://x"], "http:// or https://"),
        (["--upstream", "http://x", "--host", "0.0.0.0"], "token"),
        (["--upstream", "http://x", "--key-variable", "NOT_THERE"], "NOT_THERE"),
        (["--upstream", "http://x", "--port", "70000"], "65,535"),
    ):
        done = subprocess.run([*run, *flags], capture_output=True, text=True, env={**os.environ}, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and said in done.stderr, done.stderr
    assert not (tmp_path / "s").exists()


def _some(client: socket.socket, most: int) -> bytes:
    data = client.recv(most)
    assert data, "the connection was closed"
    return data


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gigabyte_passes_in_flat_memory(tmp_path: Path) -> None:
    """A body of 1 GiB passes up, and one of 256 MiB down; the proxy's memory grows by no more than its copies may."""
    size, piece = 1 << 30, b"x" * (1 << 20)
    counted: list[int] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        got, head = 0, b""
        while b"\r\n\r\n" not in head:
            head += _some(client, 65536)
        got = len(head.partition(b"\r\n\r\n")[2])
        while got < size:
            got += len(_some(client, 1 << 20))
        counted.append(got)
        client.sendall(head_of(256 << 20))
        for _ in range(256):
            client.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    process, url = start(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")

    def peak() -> int:
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) << 10

    before = peak()
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as client:
        client.sendall(b"POST /t/r" + PATH.encode() + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(1024):
            client.sendall(piece)
        got = 0
        while got < 256 << 20:
            got += len(_some(client, 1 << 20))
    grown = peak() - before
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert counted == [size] and grown < 3 * Limits().copy, grown
    with odograph.open(tmp_path / "s") as store:
        assert "1,073,741,824 bytes" in one(store).llm_calls[0].extra["not_kept"]
