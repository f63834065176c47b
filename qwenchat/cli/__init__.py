"""The command line: one file for each noun. `main` is the root, and all commands write through `output`."""
