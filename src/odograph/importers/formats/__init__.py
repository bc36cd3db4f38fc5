"""One source format a file. `importers` finds them by name, and asks each whether a file is its own."""
