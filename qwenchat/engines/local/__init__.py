"""llama.cpp in a child process: the parent's side."""
