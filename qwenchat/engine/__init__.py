"""A prompt in, tokens out: the process that runs llama.cpp and the way to talk to it."""
