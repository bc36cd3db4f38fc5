"""Trainers that call agents: one rollout is one row; an endpoint over engines of token ids; thin adapters, as they are called."""

from __future__ import annotations

import asyncio
import enum
import json
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import openai
import pytest

import odograph
from odograph import Agent, InvalidInput, Task
from odograph.online import areal, nemo_gym, skyrl, slime, verl
from odograph.training.online import ChatServer, Generated, rollout, rollouts, sync_rollouts
from tests.llm_server import Answer, LLMServer

from .scaffold import add, asks, by_turn
from .test_edits import CALL, WORDS, search, thinks


def engine(ids: list[int], params: dict[str, Any]) -> Generated:
    """Thinks, searches, thinks; the logprob of a token is minus its id."""
    made = WORDS.encode(f"{thinks(ids)} <end>")
    return Generated(made, [-float(i) / 100 for i in made])


def cut(answer: Any) -> None:
    """The edit: the thought's first word goes."""
    if answer.tool_calls:
        answer.edit(on="text").delete(0, 6, reason="shorter", author="me")


def thinker(**settings: Any) -> Agent:
    return Agent(**{"model": "m", "tools": [search], "api_key": "x", "max_retries": 0, **settings})


def rewarded(t: odograph.Trajectory) -> float:
    return 1.0 if "rains" in str(t.answer) else 0.0


def test_one_rollout_is_one_row(store: odograph.Store) -> None:
    """An agent with a tool and an edit asks a loopback server over an engine of ids; its row has the engine's very ids and
    logprobs, the reward and the policy version; the same task again is another trajectory of the same group."""
    task = Task("q", thinker(on_answer=cut), id="q1")

    async def main() -> Any:
        with ChatServer(engine, WORDS) as server:
            options: dict[str, Any] = {"base_url": server.url, "model": "policy", "policy_version": 7, "store": store}
            first = await rollout(task, reward=rewarded, **options)
            longest = await rollout(task, edits="env", **options)
            return [first, longest, *await rollouts([task, task], **options)]

    (row, response), (longest, _), (again, _), _ = asyncio.run(main())
    assert longest is not None and longest.trained == len(WORDS.encode(f"think of the weather {CALL} <end>"))  # of two rows
    assert row is not None and again is not None and row.reward == 1.0 and again.reward is None
    calls = response.recorded.llm_calls
    assert response.recorded.start.policy_version == 7 and row.group == again.group == "q1"
    assert row.token_ids == [*calls[1].prompt_token_ids, *calls[1].choices[0].token_ids]
    trained = [(i, p) for i, p, m in zip(row.token_ids, row.logprobs, row.mask, strict=True) if m]
    assert trained[-5:] == [(i, -i / 100) for i in WORDS.encode("maybe it rains today <end>")]
    assert [e.reason for s in response.recorded.steps for e in s.edits] == ["shorter"]
    assert response.recorded.llm_calls[1].messages[1]["content"] == "of the weather"
    assert len(list(store.trajectories(group="q1"))) == 4
    synced = sync_rollouts([Task("q", thinker(base_url="http://127.0.0.1:9", max_retries=0))], store=store)
    assert synced[0][0] is None and synced[0][1].status == "failed"


def test_what_is_no_row(store: odograph.Store) -> None:
    """Of several rows the longest is given; of a backend without ids there is none, and without logprobs only where it is said."""
    with LLMServer(by_turn(asks(("add", {"a": 1, "b": 2})), Answer(text="3"))) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", api_key="x", tools=[add])
        row, response = asyncio.run(rollout(Task("q", agent), store=store))
        assert row is None and response.answer == "3"
    with LLMServer([Answer(text="ab", token_ids=[4, 5, 6], prompt_token_ids=[1, 2])]) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", api_key="x")
        assert asyncio.run(rollout(Task("q", agent), store=store))[0] is None
        row, _ = asyncio.run(rollout(Task("q", agent), store=store, logprobs=False))
        assert row is not None and row.token_ids == [1, 2, 4, 5, 6]
    with pytest.raises(InvalidInput, match="is no Agent: base_url"):
        asyncio.run(rollout(Task("q", lambda q: q), base_url="http://x", store=store))
    with pytest.raises(InvalidInput, match="pair"):
        asyncio.run(rollout(Task("q", agent), edits="pair", store=store))


def test_the_server_speaks_to_any_client(store: odograph.Store) -> None:
    """A conversation that goes on keeps its sampled ids, streamed or not; wrong requests are told what was expected."""
    odd = WORDS.encode("today of <end> q <end>")  # other ids than its text has

    def strange(ids: list[int], params: dict[str, Any]) -> Generated:
        return Generated(odd, None, "length" if params.get("max_tokens") == 1 else "stop")

    with ChatServer(strange, WORDS) as server:
        client = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        messages: list[Any] = [{"role": "user", "content": "q"}]
        said = client.chat.completions.create(model="m", messages=messages, max_tokens=1)
        assert said.choices[0].finish_reason == "length" and said.choices[0].message.content == "today of q"
        messages += [{"role": "assistant", "content": "today of q"}, {"role": "user", "content": "it"}]
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        first, last = list(stream)
        known = first.model_dump()["prompt_token_ids"]
        assert known == WORDS.encode("<user> q <end> <assistant>") + odd + WORDS.encode("<user> it <end> <assistant>")
        assert first.choices[0].delta.content == "today of q" and last.choices[0].finish_reason == "stop"
        with pytest.raises(openai.BadRequestError, match="list of token ids"):
            client.completions.create(model="m", prompt="text")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="m", input="x")

    def broken(ids: list[int], params: dict[str, Any]) -> Generated:
        raise RuntimeError("no memory")

    with ChatServer(broken, WORDS) as server:
        client = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="RuntimeError: no memory"):
            client.chat.completions.create(model="m", messages=messages)


@pytest.mark.parametrize("dialect", ["openai.completions", "vllm.generate"])
def test_edited_ids_reach_the_engine(store: odograph.Store, dialect: str) -> None:
    """By either path of ids: the engine is asked with the edited ids, and its settings are the agent's."""
    asked: list[tuple[list[int], dict[str, Any]]] = []

    def noted(ids: list[int], params: dict[str, Any]) -> Generated:
        asked.append((ids, params))
        return engine(ids, params)

    def shorter(answer: Any) -> None:
        if answer.tool_calls:
            answer.edit().delete(0, 1)

    with ChatServer(noted, WORDS) as server:
        agent = thinker(base_url=server.url, dialect=dialect, tokenizer=WORDS, on_answer=shorter, params={"temperature": 0.5})
        ((row, response),) = sync_rollouts([Task("q", agent)], store=store)
        assert httpx.post(server.url.removesuffix("/v1") + "/inference/v1/generate", json={"prompt": [1]}).status_code == 400
        assert httpx.post(server.url + "/chat/completions", json={"messages": ["hi"]}).status_code == 400
    assert row is not None and "rains" in str(response.answer) and asked[0][1]["temperature"] == 0.5
    assert asked[1][0] == response.recorded.llm_calls[1].prompt_token_ids == row.token_ids[: len(asked[1][0])]
    assert WORDS.encode("of the weather")[0] in asked[1][0] and WORDS.encode("think")[0] not in asked[1][0]


def test_rows_of_any_format_in_memory(store: odograph.Store) -> None:
    """`odograph.rows` gives what an export writes, and says what gave none."""
    with ChatServer(engine, WORDS) as server:
        ((_, response),) = sync_rollouts([Task("q", thinker(base_url=server.url), group="g")], reward=rewarded, store=store)
    t = response.recorded
    (row,) = odograph.rows(t, to="trl-grpo", edits="mask")
    assert row["prompt_ids"] == WORDS.encode("<user> q <end> <assistant>") and row["reward"] == 1.0
    made = odograph.rows([t], to="verl")
    assert made[0]["reward_score"] == 1.0 and made.report is not None and made.report.balanced
    assert odograph.rows(t, to="jsonl")[0]["kind"] and odograph.rows(t, to="atif")[0]["schema_version"].startswith("ATIF")
    bare = store.add({"task": "t", "agent": "a", "steps": []})
    assert not odograph.rows(store.trajectory(bare), to="trl-grpo")


def test_an_agent_loop_of_verl(store: odograph.Store) -> None:
    """verl's servers take ids and give ids; the output's fields are of one length, also of a rollout without a row."""

    class Manager:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        async def generate(self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
            self.seen.append((request_id, sampling_params))
            made = engine(prompt_ids, sampling_params)
            return types.SimpleNamespace(token_ids=made.token_ids, log_probs=made.logprobs, stop_reason="completed")

    manager = Manager()

    async def main() -> dict[str, Any]:
        with ChatServer(verl.engine(manager, {"temperature": 0.7}), WORDS) as server:
            row, _ = await rollout(Task("q", thinker(base_url=server.url, on_answer=cut)), reward=rewarded, store=store)
            return verl.output(row, 1.0, 0)

    out = asyncio.run(main())
    assert len(out["response_ids"]) == len(out["response_mask"]) == len(out["response_logprobs"]) == 5
    assert len({id for id, _ in manager.seen}) == 1 and manager.seen[0][1]["temperature"] == 0.7
    none = verl.output(None, None, 0)
    assert none.keys() == out.keys() and sum(none["response_mask"]) == 0
    with pytest.raises(InvalidInput, match="needs verl itself"):
        verl.agent_loop(thinker())


class Status(enum.Enum):
    COMPLETED = "completed"
    TRUNCATED = "truncated"
    FAILED = "failed"
    ABORTED = "aborted"


class Sample:
    """The fields of slime's own that a custom generate function reads and writes (slime/utils/types.py)."""

    Status = Status

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.status: Any = None
        self.reward: Any = None
        self.tokens: list[int] = []
        self.response_length = 0


def test_slimes_custom_generate(store: odograph.Store) -> None:
    """SGLang's router is sent ids by `/generate`; the sample has mask and logprobs of the response's length."""
    from tests.token_server import TokenServer

    with TokenServer(WORDS, thinks) as server:
        host, port = server.url.removeprefix("http://").split(":")
        args = types.SimpleNamespace(sglang_router_ip=host, sglang_router_port=port)
        fn = slime.generate(thinker(), tokenizer=WORDS, reward=rewarded, store=store)
        made: Any = asyncio.run(fn(args, Sample("q"), {"temperature": 0.5}))
        assert made.status is Status.COMPLETED and made.reward == 1.0
        assert len(made.loss_mask) == len(made.rollout_log_probs) == made.response_length < len(made.tokens)
        assert server.requests[0][0] == "/generate" and server.requests[0][1]["sampling_params"]["temperature"] == 0.5
    lost: Any = asyncio.run(fn(args, Sample("q"), {}))
    assert lost.status is Status.ABORTED


def test_areals_workflow_and_skyrls_generator(store: odograph.Store) -> None:
    """AReaL gets a float from an agent that asks its proxy; SkyRL one entry per prompt of one length each."""

    class Client:
        async def generate(self, asked: dict[str, Any]) -> dict[str, Any]:
            made = engine(asked["prompt_token_ids"][0], asked["sampling_params"])
            return {"response_ids": [made.token_ids], "response_logprobs": [made.logprobs], "stop_reasons": ["stop"]}

    async def main() -> None:
        with ChatServer(engine, WORDS) as server:
            flow = areal.Workflow(thinker(), reward=rewarded, store=store)
            data = {"messages": [{"role": "user", "content": "q"}]}
            assert await flow.run(data, base_url=server.url, api_key="k") == 1.0
            unknown = areal.Workflow(thinker(), reward=lambda t: None, store=store)
            with pytest.raises(odograph.RunError, match="not known"):
                await unknown.run("q", base_url=server.url)
        generator = skyrl.Generator(thinker(), Client(), WORDS, reward=rewarded, store=store)
        out = await generator.generate({"prompts": [[{"role": "user", "content": "q"}], "today"], "sampling_params": {}})
        assert out["rewards"] == [1.0, 1.0]
        for ids, mask, logprobs in zip(out["response_ids"], out["loss_masks"], out["rollout_logprobs"], strict=True):
            assert len(ids) == len(mask) == len(logprobs) > 5

    asyncio.run(main())
    assert CALL in WORDS.decode(WORDS.encode(CALL), False)


class GymHandler(BaseHTTPRequestHandler):
    """The HTTP shape of NeMo Gym's servers in one: sessions by cookie, a path for each tool, /verify, and a model whose last
    output item has token ids (nemo_gym/openai_utils.py)."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, Any, str | None]]] = []

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append((self.path, body, self.headers.get("cookie")))
        out: Any = {"/seed_session": {}, "/weather": {"sky": f"it rains in {body.get('city')}"}}.get(self.path)
        if self.path == "/v1/responses":
            out = self.answered(body["input"])
        elif self.path == "/verify":
            out = {**body, "reward": float("rains" in body["response"]["output"][-1]["content"][0]["text"])}
        raw = json.dumps(out).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        if self.path == "/seed_session":
            self.send_header("set-cookie", "session=s1; path=/")
        self.end_headers()
        self.wfile.write(raw)

    def answered(self, items: list[Any]) -> Any:
        before = [i for i in items if "generation_token_ids" in i]
        prompt = before[-1]["prompt_token_ids"] + before[-1]["generation_token_ids"] + [50] if before else [1, 2]
        item: dict[str, Any] = {
            "type": "function_call",
            "id": "f",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city": "Bonn"}',
        }
        if before:
            said = {"type": "output_text", "text": "it rains", "annotations": []}
            item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]}
        item |= {"prompt_token_ids": prompt, "generation_token_ids": [10, 11 + len(before)], "generation_log_probs": [-0.1, -0.2]}
        about = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "policy"}
        return {**about, "output": [item], "usage": {"input_tokens": 2, "output_tokens": 2, "total_tokens": 4}}


def test_nemo_gyms_agent_server(store: odograph.Store) -> None:
    """Its tools are paths of the resources server, one session by cookie; /verify gets the response with all items and their ids,
    and rewards; the row has the model server's very ids."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), GymHandler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked = {"input": [{"role": "user", "content": "Bonn?"}], "tools": [tool], "temperature": 0.5, "model": "policy"}
    made = asyncio.run(
        nemo_gym.run(
            thinker(tools=[]), {"responses_create_params": asked, "id": 7}, model_url=url, resources_url=url, store=store
        )
    )
    with pytest.raises(odograph.RunError, match="/seed_session did not answer"):
        asyncio.run(
            nemo_gym.run(thinker(), {"responses_create_params": asked}, model_url=url, resources_url="http://127.0.0.1:9")
        )
    server.shutdown()
    assert made["reward"] == 1.0 and made["id"] == 7
    kinds = [(item["type"], item.get("generation_token_ids")) for item in made["response"]["output"]]
    assert kinds == [("function_call", [10, 11]), ("function_call_output", None), ("message", [10, 12])]
    seen = GymHandler.seen
    assert [path for path, _, _ in seen] == ["/seed_session", "/v1/responses", "/weather", "/v1/responses", "/verify"]
    assert seen[2][1:] == ({"city": "Bonn"}, "session=s1") == (seen[2][1], seen[4][2]) and seen[1][1]["temperature"] == 0.5
    (t,) = store.trajectories()
    assert t.reward == 1.0 and t.actions[0].result == {"sky": "it rains in Bonn"}
    (row,) = odograph.samples([t], logprobs=True)
    assert row.token_ids == [1, 2, 10, 11, 50, 10, 12] and row.mask == [0, 0, 1, 1, 0, 1, 1]
