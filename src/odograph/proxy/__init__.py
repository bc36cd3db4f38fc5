"""The recording proxy: model calls of agents that can't be touched pass through it unchanged, and a copy becomes records."""
