"""A receiver of OpenTelemetry: spans and logs of any tool become sessions of a store. What a span means is told in `spans`."""
