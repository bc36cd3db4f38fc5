"""Everything that writes records while an agent runs."""
