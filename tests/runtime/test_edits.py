"""Edits while an agent runs: of answers, tool calls and prompts; what the model sees next, what is on record, what is trained."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

import odograph
from odograph import Agent, InvalidInput, Kept, Literal, RunError, Runners, Task, TaskConfig, TaskResponse
from odograph.runtime import frameworks
from tests.llm_server import Answer, LLMServer
from tests.runtime.scaffold import PATHS, add, asks, by_turn, sent
from tests.token_server import TokenServer, Words

CALL = '<tool_call> {"name":"search","arguments":{"query":"rain"}} </tool_call>'
WORDS = Words(f'think of the weather maybe it rains sun today q {CALL} nothing {{"name":"search","arguments":{{"query":"sun"}}}}')


def agent(server: LLMServer, dialect: str = "openai.chat", **settings: Any) -> Agent:
    url = server.url + PATHS[dialect]
    return Agent(model="m", base_url=url, api_key="x", dialect=dialect, **{"tools": [add], "max_retries": 0, **settings})


def run(store: odograph.Store, agent: Any, **conf: Any) -> TaskResponse:
    task = Task("q", agent, TaskConfig(**conf))
    return asyncio.run(Runners.run_task(task, store=store))[task.id]  # type: ignore[no-any-return]


def looker() -> LLMServer:
    return LLMServer(by_turn(asks(("add", {"a": 1, "b": 2}), text="let me see"), Answer(text="three")))


def shout(answer: Any) -> None:
    """Edits each answer."""
    answer.edit(on="text").replace(0, 3, "LET", reason="shout", author="me")


@pytest.mark.parametrize("dialect", PATHS)
def test_what_the_model_sees_next_is_the_edited_conversation(dialect: str, store: odograph.Store) -> None:
    """An edited answer, a changed tool call and a message that was put in are in the next request, whatever the API; all are on
    record with author and reason; a replay does them again, and so does a fork."""

    async def brief(prompt: Any) -> None:
        if len(prompt.messages) > 1:
            prompt.put("be brief", reason="it talks", author="boss")

    with looker() as server:
        edited = agent(
            server,
            dialect,
            on_answer=shout,
            on_tool=lambda use: use.change({"a": 5, "b": 6}, reason="bigger", author="me"),
            on_prompt=brief,
        )
        response = run(store, edited)
        again = json.dumps(server.requests[1][1])
        assert response.answer == "LETee" and response.status == "completed"
        assert "LET me see" in again and '\\"a\\":5' in again.replace('{"a": 5', '\\"a\\":5') and "let me see" not in again
        assert again.index('"11"') < again.index("be brief")
        t = response.recorded
        assert [(e.reason, e.author) for s in t.steps for e in s.edits] == [("shout", "me")] * 2
        assert t.actions[0].arguments == {"a": 5, "b": 6} and t.actions[0].result == 11
        decision = (t.actions[0].extra or {})["decision"]
        assert (decision["what"], decision["reason"], decision["author"]) == ("changed", "bigger", "me")
        (note,) = [n for s in t.steps for n in s.notes]
        assert note.data["messages"] == [{"role": "user", "content": "be brief"}] and note.data["author"] == "boss"
        assert odograph.validate(t).valid
        assert asyncio.run(odograph.replay(t.id, edited, store=store)).same
        forked = asyncio.run(Runners.finish(odograph.fork(t.id, 1, agent=edited.replace(on_prompt=None), store=store)))
        assert server.requests[-1][1] == server.requests[1][1] and forked.answer == "LETee"


def test_a_tool_call_can_be_refused_or_approved(store: odograph.Store) -> None:
    """A refused tool is not used, and the model sees what whoever refused it says; who approved is on record. A replay refuses again,
    also where it uses tools."""
    used: list[int] = []

    def delete(n: int) -> str:
        """Deletes."""
        used.append(n)
        return "gone"

    def decide(use: Any) -> None:
        if use.arguments["n"] == 1:
            use.refuse("not that one", reason="it is needed", author="me")
        else:
            use.approve(author="me")

    with LLMServer(by_turn(asks(("delete", {"n": 1}), ("delete", {"n": 2})), Answer(text="end"))) as server:
        response = run(store, agent(server, tools=[delete]), on_tool=decide)
        assert used == [2] and [m["content"] for m in sent(server)[1] if m["role"] == "tool"] == ["not that one", "gone"]
        refused, approved = response.recorded.actions
        assert refused.ok is False and refused.error == {"type": "refused", "message": "it is needed"}
        assert (approved.extra or {})["decision"] == {"what": "approved", "author": "me"}
        same = agent(server, tools=[delete])
        assert asyncio.run(odograph.replay(response.trajectory_id, same, store=store)).same
        assert asyncio.run(odograph.replay(response.trajectory_id, same, tools="live", store=store)).same and used == [2, 2]


def test_a_run_can_be_stopped_compacted_and_gone_on_with(store: odograph.Store) -> None:
    """A callable stops a run with a reason; the stopped run is resumed where it stood, with the prompt as it was compacted. A
    prompt of nothing is refused."""

    def compact(prompt: Any) -> None:
        if len(prompt.messages) > 2:
            prompt.compact([{"role": "user", "content": "q; you added 1 and 2: 3"}], reason="long", author="me")
            prompt.stop("let me think", author="me")

    with looker() as server:
        empty = run(store, agent(server, on_prompt=lambda prompt: prompt.compact([])))
        assert empty.status == "failed" and "at least one message" in empty.msg and not server.requests
        response = run(store, agent(server, on_prompt=compact))
        assert (response.status, response.msg) == ("cancelled", "let me think") and len(server.requests) == 1
        done = asyncio.run(Runners.finish(Runners.resume(store, str(response.trajectory_id), agent=agent(server))))
        assert done.answer == "three"
        assert sent(server)[1] == [{"role": "user", "content": "q; you added 1 and 2: 3"}]
        assert asyncio.run(odograph.replay(response.trajectory_id, agent(server), store=store)).divergence is None


def test_an_answer_that_was_final_goes_on_where_a_message_is_put_in_behind_it(store: odograph.Store) -> None:
    """`answer.put` makes the model be asked again."""

    def doubt(answer: Any) -> None:
        if not answer.text.startswith("sure"):
            answer.put("are you sure?", author="me")

    with LLMServer(by_turn(Answer(text="4"), Answer(text="sure: 4"))) as server:
        response = run(store, agent(server), on_answer=doubt)
    assert response.answer == "sure: 4" and [m["content"] for m in sent(server)[1]] == ["q", "4", "are you sure?"]


def test_edits_between_steps(store: odograph.Store) -> None:
    """`response.edit` changes what the next step sends; another process resumes with it; bad edits say why and change nothing."""

    async def main() -> None:
        with looker() as server:
            task = Task("q", agent(server))
            _, _, response = await Runners.step(task, store=store)
            with pytest.raises(InvalidInput, match="rejected"):
                response.edit(on="text").delete(5, 500)
            with pytest.raises(InvalidInput, match="token ids"):
                response.edit(on="tokens").delete(0, 1)
            response.edit(on="text").rewrite("let me NOT see", reason="no", author="me")
            other = Runners.resume(store, str(response.trajectory_id), agent=agent(server))
            finished, _, response = await Runners.step(other)
            assert finished and sent(server)[1][1]["content"] == "let me NOT see"
            assert (await odograph.replay(response.trajectory_id, agent(server), store=store)).same
            response.edit(on="text").replace(0, 5, "3", reason="late")
            assert [e.reason for s in response.recorded.steps for e in s.edits if not e.rejected] == ["no"]
            assert [e.reason for e in response.recorded.edits] == ["late"]

    asyncio.run(main())


def test_a_callable_that_fails_costs_the_step_and_nothing_else(store: odograph.Store) -> None:
    """What a callable raises is a RunError that names it; the run is failed, and says so."""

    def broken(answer: Any) -> None:
        raise ValueError("no such answer")

    with looker() as server:
        response = run(store, agent(server), on_answer=broken)
        assert response.status == "failed" and "broken failed: ValueError: no such answer" in str(response.msg)
        with pytest.raises(RunError, match="broken"):
            asyncio.run(Runners.step(Task("q", agent(server, on_prompt=broken)), store=store))


def test_a_model_that_a_callable_asks_is_not_the_policy(store: odograph.Store) -> None:
    """What a callable asks a wrapped client is on record with the purpose `tool`, of an agent and of a function; a step stays one."""

    async def main() -> None:
        with looker() as server:
            client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))

            async def critic(answer: Any) -> None:
                asked = [{"role": "user", "content": f"good? {answer.text}"}, {"role": "assistant", "content": "hm"}]
                await client.chat.completions.create(model="critic", messages=asked)

            async def solve(question: str) -> Any:
                asked = [{"role": "user", "content": question}]
                return (await client.chat.completions.create(model="m", messages=asked)).choices[0].message.content

            for one in (agent(server), solve):
                task = Task("q", one, TaskConfig(on_answer=critic))
                response = (await Runners.run_task(task, store=store))[task.id]
                purposes = [(c.purpose, c.model) for c in response.recorded.llm_calls]
                assert purposes[:2] == [("act", "m"), ("tool", "critic")], purposes
                assert len(response.recorded.steps) == purposes.count(("act", "m"))

    asyncio.run(main())


# --- backends of token ids ----------------------------------------------------------------------------------------------------


def search(query: str) -> str:
    """Searches."""
    return "nothing"


def thinker(server: TokenServer, dialect: str, **settings: Any) -> Agent:
    url = server.url + ("/v1" if dialect == "openai.completions" else "")
    given = {"tools": [search], "tokenizer": WORDS, **settings}
    return Agent(model="m", base_url=url, api_key="x", dialect=dialect, **given)


def thinks(prompt: list[int]) -> str:
    """Thinks and searches, then thinks and answers."""
    return f"think of the weather {CALL}" if prompt.count(WORDS.encode("<assistant>")[0]) == 1 else "maybe it rains today"


def prompts(server: TokenServer) -> list[list[int]]:
    return [body.get("prompt", body.get("input_ids")) for _, body in server.requests]


@pytest.mark.parametrize("dialect", ["openai.completions", "sglang.generate"])
def test_edited_ids_are_sent_as_ids_and_trained(dialect: str, store: odograph.Store) -> None:
    """Think, search, edit, think: the backend gets the very ids that the edit left; every policy trains them and balances."""

    def reorder(answer: Any) -> None:
        if answer.tool_calls:
            n = len(answer.token_ids)
            answer.edit(
                [Kept(0, 1), Kept(3, 4), Kept(2, 3), Literal(WORDS.encode("sun")), Kept(4, n)], reason="r", preferred=True
            )

    with TokenServer(WORDS, thinks) as server:
        own = thinker(server, dialect, on_answer=reorder)
        response = run(store, own)
        assert response.answer == "maybe it rains today", response.msg
        generated = response.recorded.llm_calls[0].choices[0].token_ids
        assert generated is not None
        edited = [generated[0], generated[3], generated[2], *WORDS.encode("sun"), *generated[4:]]
        first, second = prompts(server)
        assert second == [*first, *edited, *WORDS.encode("<tool> nothing <end> <assistant>")]
        response.reward(1.0, step="trajectory")
        t = response.recorded
        assert asyncio.run(odograph.replay(t.id, own, store=store)).same
        trained = {}
        for policy, more in (("env", {}), ("mask", {}), ("imitate", {}), ("reweight", {"scorer": lambda ids: [-0.3] * len(ids)}), ("pair", {})):  # fmt: skip
            rows = odograph.samples([t], edits=policy, **more)
            assert rows.report.balanced, policy
            trained[policy] = len(list(rows)) if policy == "pair" else sum(sum(s.mask) for s in rows)
        sampled = len(generated) + 5
        assert trained == {"env": sampled, "mask": 6, "imitate": sampled, "reweight": sampled - 1, "pair": 1}
        forked = asyncio.run(Runners.finish(odograph.fork(t.id, 1, agent=own, store=store)))
        assert prompts(server)[-1] == second and forked.answer == response.answer


def test_between_steps_ids_are_edited_and_a_killed_run_goes_on_with_them(store: odograph.Store) -> None:
    """A changed tool call and an edit between steps are in the ids that another process sends; the edit before the tools
    decides which tools are used."""

    async def main() -> None:
        with TokenServer(WORDS, thinks) as server:
            own = thinker(server, "openai.completions", on_tool=lambda use: use.change({"query": "sun"}, reason="why"))
            _, observation, response = await Runners.step(Task("q", own), store=store)
            assert observation[0]["content"] == "nothing"
            response.edit().delete(0, 1, reason="shorter")
            finished, _, response = await Runners.step(Runners.resume(store, str(response.trajectory_id), agent=own))
            text = WORDS.decode(prompts(server)[1], False)
            changed = '<tool_call> {"name":"search","arguments":{"query":"sun"}} </tool_call>'
            assert (
                finished and text == f"<user> q <end> <assistant> of the weather {changed} <end> <tool> nothing <end> <assistant>"
            )
            assert (await odograph.replay(response.trajectory_id, own, store=store)).same
            quiet = own.replace(on_tool=None, on_answer=lambda a: a.tool_calls and a.edit().truncate(4, reason="no tool"))
            ended = run_in(await Runners.run_task(Task("q", quiet), store=store))
            assert ended.answer == "think of the weather" and not ended.recorded.actions

    asyncio.run(main())


def run_in(responses: dict[str, Any]) -> Any:
    (response,) = responses.values()
    return response


# --- code that is no Agent ----------------------------------------------------------------------------------------------------


def test_a_functions_answers_and_prompts_are_edited_at_its_client(store: odograph.Store) -> None:
    """A function gets the edited answer, and its later requests have the messages that were put in, whether it streams or not; it
    is resumed and replayed with both."""

    async def main(stream: bool) -> None:
        async def solve(question: str) -> Any:
            messages: list[Any] = [{"role": "user", "content": question}]
            for _ in range(3):
                asked = client.chat.completions.create(model="m", messages=messages, stream=stream)
                if stream:
                    said = "".join([c.choices[0].delta.content or "" async for c in await asked if c.choices])
                else:
                    said = (await asked).choices[0].message.content
                messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "more"}]
            return said

        def hint(prompt: Any) -> None:
            if len(prompt.messages) == 3:
                prompt.put("a hint", author="me")

        with LLMServer(by_turn(Answer(text="one"), Answer(text="let two"), Answer(text="let three"))) as server:
            client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))
            conf = TaskConfig(on_answer=lambda a: shout(a) if a.text.startswith("let") else None, on_prompt=hint)
            response = run_in(await Runners.run_task(Task("q", solve, conf), store=store))
            assert response.answer == "LET three", response.msg
            assert [m["content"] for m in sent(server)[2]] == ["q", "one", "more", "a hint", "LET two", "more"]
            assert (await odograph.replay(response.trajectory_id, solve, store=store)).same
            task = Task("q", solve, conf)
            _, _, stepped = await Runners.step(task, store=store)
            stepped.edit(on="text").rewrite("ONE", reason="why")
            finished, _, stepped = await Runners.step(Runners.resume(store, stepped.trajectory_id, agent=solve, conf=conf))
            assert not finished and [m["content"] for m in sent(server)[-1]] == ["q", "ONE", "more", "a hint"]

            def stop(answer: Any) -> None:
                answer.stop("enough")

            stopped = run_in(await Runners.run_task(Task("q", solve, TaskConfig(on_answer=stop)), store=store))
            assert (stopped.status, stopped.msg) == ("cancelled", "enough")

    for stream in (False, True):
        asyncio.run(main(stream))


def test_a_sync_client_of_a_function_is_held_and_edited(store: odograph.Store) -> None:
    """A function in a thread asks once a step, gets the edited answer, and asks with what was put in; its replay asks nobody."""

    def solve(question: str) -> Any:
        messages: list[Any] = [{"role": "user", "content": question}]
        for stream in (False, True):
            raw = client.chat.completions.with_raw_response.create(model="m", messages=messages, stream=stream)
            assert raw.headers["content-type"]  # what else the server said is there, too
            asked = raw.parse()
            said = "".join(c.choices[0].delta.content or "" for c in asked) if stream else asked.choices[0].message.content
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "more"}]
        return said

    async def main() -> None:
        task = Task("q", solve, TaskConfig(on_answer=shout, on_prompt=lambda p: p.put("a hint", author="me")))
        finished, _, response = await Runners.step(task, store=store)
        assert not finished and len(sent(server)) == 1  # the second request waits for its step
        assert (await Runners.finish(task, store=store)).answer == "LET two", response.msg
        assert [m["content"] for m in sent(server)[1]] == ["q", "a hint", "LET one", "more", "a hint"]
        assert (await odograph.replay(response.trajectory_id, solve, store=store)).same
        assert len(sent(server)) == 2

    with LLMServer(by_turn(Answer(text="let one"), Answer(text="let two"))) as server:
        client: Any = odograph.wrap(openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))
        asyncio.run(main())


def test_a_prompt_that_is_stopped_is_no_call(store: odograph.Store) -> None:
    """A function whose prompt is stopped before it goes out asked nobody, by a sync client and by an async one."""

    def solve(question: str) -> Any:
        return plain.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])

    async def solve_async(question: str) -> Any:
        return await other.chat.completions.create(model="m", messages=[{"role": "user", "content": question}])

    with looker() as server:
        settings: Any = {"base_url": server.url + "/v1", "api_key": "x", "max_retries": 0}
        plain: Any = odograph.wrap(openai.OpenAI(**settings))
        other: Any = odograph.wrap(openai.AsyncOpenAI(**settings))
        for one in (solve, solve_async):
            response = run(store, one, on_prompt=lambda prompt: prompt.stop("enough"))
            assert (response.status, response.msg, response.recorded.llm_calls) == ("cancelled", "enough", [])
    assert not server.requests


def test_a_frameworks_agent_is_edited(store: odograph.Store) -> None:
    """Think, search, edit, think, by agents of openai-agents and pydantic-ai: the framework goes on with the edited answer."""
    import agents
    import pydantic_ai
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    with looker() as server:

        def client() -> openai.AsyncOpenAI:  # each in an event loop of its own
            return openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0)

        model = agents.OpenAIChatCompletionsModel("m", client())
        theirs = frameworks.openai_agents(agents.Agent(name="a", model=model, tools=[agents.function_tool(add)]))
        pydantic = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client()))
        others = frameworks.pydantic_ai(pydantic_ai.Agent(pydantic, tools=[add], name="p"))
        for one in (theirs, others):
            response = run(store, one, on_answer=shout)
            assert response.answer == "LETee", response.msg
            assert "LET me see" in json.dumps(server.requests[-1][1]) and "let me see" not in json.dumps(server.requests[-1][1])
            assert [e.reason for s in response.recorded.steps for e in s.edits] == ["shout", "shout"]
        with pytest.raises(RunError, match="on_tool"):
            asyncio.run(Runners.step(Task("q", theirs, TaskConfig(on_tool=lambda use: None)), store=store))
