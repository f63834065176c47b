"""The parent's side of llama.cpp in a child process."""
