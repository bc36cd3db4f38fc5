"""pydantic-ai, instrumented by Logfire."""

import os

from common import COLLECTOR, MODEL, tide

os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = COLLECTOR

import logfire
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

logfire.configure(send_to_logfire=False, service_name="harbour", console=False)
logfire.instrument_pydantic_ai()
model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=MODEL + "/v1", api_key="k"))
pilot = Agent(model, name="pilot", system_prompt="You know tides.", tools=[tide])
print(pilot.run_sync("high tide in Brest?", model_settings={"temperature": 0.0}).output)
logfire.shutdown()
