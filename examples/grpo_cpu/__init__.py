"""GRPO on CPU in a minute, without network: rollouts recorded by Odograph, trained by TRL (docs/training.md)."""
