"""OpenInference's instrumentation of the OpenAI Agents SDK, which speaks the Responses API."""

from agents import Agent, Runner, function_tool, set_default_openai_client
from common import MODEL, provider, tide
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

spans = provider()
OpenAIAgentsInstrumentor().instrument(tracer_provider=spans)
set_default_openai_client(AsyncOpenAI(base_url=MODEL + "/v1", api_key="k"), use_for_tracing=False)
pilot = Agent(name="pilot", instructions="You know tides.", model="m", tools=[function_tool(tide)])
print(Runner.run_sync(pilot, "high tide in Brest?").final_output)
spans.shutdown()
