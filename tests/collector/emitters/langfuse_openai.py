"""Langfuse's own client around the OpenAI SDK."""

from common import COLLECTOR, MODEL, agent
from langfuse import Langfuse, observe, propagate_attributes
from langfuse.openai import OpenAI

langfuse = Langfuse(public_key="pk", secret_key="sk", base_url=COLLECTOR)


@observe(name="pilot", as_type="agent")
def run(question: str) -> str:
    with propagate_attributes(session_id="s-1", user_id="u-1", tags=["tides"]):
        agent(OpenAI(base_url=MODEL + "/v1", api_key="k"))
    return "at noon"


run("high tide in Brest?")
langfuse.flush()
