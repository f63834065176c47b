"""The command line: one file a noun, `output` the one sink, `main` the root."""
