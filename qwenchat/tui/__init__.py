"""The screen: a Textual program over `chat`. Imported by the command that opens it and by nothing else."""
