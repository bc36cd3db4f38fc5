"""Agents that trade on a simulated prediction market: from logs to a dataset with rewards. Run `python -m examples.trading`."""
