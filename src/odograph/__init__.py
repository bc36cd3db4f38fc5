"""Odograph: the system of record for the trajectories of LLM agents."""

__version__ = "0.1.0"
