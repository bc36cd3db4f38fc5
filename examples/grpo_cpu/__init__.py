"""GRPO on CPU in minutes, without network: rollouts recorded by Odograph, trained by TRL. Run `python -m examples.grpo_cpu.train`."""
