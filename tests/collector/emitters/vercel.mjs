// The AI SDK of Vercel: two calls, and a tool between them.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

const [model, collector] = process.argv.slice(2);
const exporter = new OTLPTraceExporter({ url: collector + "/v1/traces" });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
const odo = createOpenAICompatible({ name: "odo", baseURL: model + "/v1", apiKey: "k" });
await generateText({
  model: odo("m"),
  system: "You know tides.",
  prompt: "high tide in Brest?",
  temperature: 0,
  tools: {
    tide: tool({
      description: "When it is high tide.",
      inputSchema: z.object({ port: z.string() }),
      execute: async ({ port }) => `${port}: at noon`,
    }),
  },
  stopWhen: stepCountIs(5),
  experimental_telemetry: { isEnabled: true, functionId: "pilot", metadata: { sessionId: "s-1", userId: "u-1" } },
});
await provider.shutdown();
