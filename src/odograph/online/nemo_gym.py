"""NeMo Gym: an agent as the `run` of an agent server.

Source: NeMo Gym, `responses_api_agents/simple_agent/app.py` and `nemo_gym/openai_utils.py`: `POST /run` gets a body with
`responses_create_params` (a request of the Responses API), and gives it back with `response` and `reward`. The resources server
has `/seed_session`, a path for each tool, and `/verify`, which rewards; its sessions are cookies. The model server has
`/v1/responses`; the last item of an output has the token ids and logprobs, which NeMo RL takes from `response`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import dialects
from ..api import Store
from ..codec import loads_or_raw
from ..dialects import Tool
from ..errors import InvalidInput, MissingExtra, RunError, described
from ..runtime import Agent, Task, TaskResponse
from ..runtime.recorded import result_of
from ..runtime.tools import UsableTool
from .rolling import ran
from .tasks import Makes, task_of

_NOT_PARAMS = ("input", "instructions", "model", "tools", "stream")


async def run(
    makes: Makes,
    body: dict[str, Any],
    *,
    model_url: str,
    resources_url: str,
    cookies: Any = None,
    store: Store | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """One rollout: what `/run` gives back. Call it in the `run` of a `SimpleResponsesAPIAgent`, with `body.model_dump()`.

    `makes`: an `Agent` (which gets the input of the request), or a function from the body to a `Task`. The tools of the request
    are those of the resources server, and are offered beside the agent's own. Raises RunError where a server does not answer.
    """
    try:
        import httpx2
    except ImportError:
        raise MissingExtra("a rollout of NeMo Gym", "run") from None
    asked = body.get("responses_create_params")
    if not isinstance(asked, dict):
        raise InvalidInput("a body of NeMo Gym has responses_create_params, an object")
    async with httpx2.AsyncClient(base_url=resources_url, cookies=cookies, timeout=httpx2.Timeout(30, read=600)) as client:

        async def post(path: str, json: Any) -> Any:
            try:
                answer = await client.post(path, json=json)
            except httpx2.HTTPError as error:
                raise RunError(f"{resources_url}{path} did not answer: {described(error)}") from None
            if answer.status_code >= 400 and path in ("/seed_session", "/verify"):
                raise RunError(f"{resources_url}{path} did not answer: HTTP {answer.status_code}: {answer.text[:300]}")
            return answer

        await post("/seed_session", body)
        task = task_of(makes, body if not hasattr(makes, "step") else dialects.get("openai.responses").messages(asked))
        if not isinstance(task.agent, Agent):
            raise InvalidInput(f"an Agent was expected for NeMo Gym's tools, found {type(task.agent).__name__}")
        task.agent = task.agent.replace(tools=[*task.agent.tools, *_tools(asked, post)])
        response = await ran(task, store=store, **_asking(asked, model_url), **settings)
        made = _response(task, response)
        rewarded = msgspec.json.decode((await post("/verify", {**body, "response": made})).content)
    response.reward(rewarded.get("reward"), "verify", source="environment")
    return rewarded  # type: ignore[no-any-return]


def _asking(asked: dict[str, Any], model_url: str) -> dict[str, Any]:
    """How the agent asks: the request's own model and parameters, at the model server."""
    params = {k: v for k, v in asked.items() if k not in _NOT_PARAMS and v is not None}
    url = model_url.rstrip("/").removesuffix("/v1") + "/v1"
    return {"base_url": url, "api_key": "none", "dialect": "openai.responses", "model": asked.get("model"), "params": params}


def _tools(asked: dict[str, Any], post: Any) -> list[Any]:  # what is a `UsableTool` already is no function to a type checker
    """The request's functions: each is a path of the resources server."""

    def of(name: str) -> Any:
        async def call(arguments: dict[str, Any]) -> tuple[Any, str]:
            text: str = (await post(f"/{name}", arguments)).text  # an error is an answer, too
            return loads_or_raw(text.encode()), text

        return call

    found = [t for t in asked.get("tools") or () if isinstance(t, dict) and t.get("type") == "function"]
    return [
        UsableTool(
            tool=Tool(name=t["name"], description=t.get("description") or "", parameters=t.get("parameters") or {}),
            call=of(t["name"]),
        )
        for t in found
    ]


def _response(task: Task, response: TaskResponse) -> dict[str, Any]:
    """The last response of the model, with all that came before it in its output: answers as they were sampled, and results."""
    recorded = response.recorded if response.trajectory_id else None
    calls = [c for c in recorded.llm_calls if c.purpose == "act" and c.choices] if recorded is not None else []
    if recorded is None or not calls:
        raise RunError(f"no response of task {task.id}: {response.msg or response.status}")
    output: list[Any] = []
    for call in calls:
        output += call.response["output"]
        output += [
            {"type": "function_call_output", "call_id": a.tool_call_id, "output": result_of(a).content}
            for a in recorded.actions
            if a.llm_call == call.id
        ]
    return {**calls[-1].response, "output": output}
