"""The built-in checks of one trajectory: every module of this folder is found by itself, in the order of the names."""
