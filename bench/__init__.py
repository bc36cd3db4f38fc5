"""The benchmark: what has a budget, as ratios against a bare append and the OpenTelemetry SDK in the same run."""
