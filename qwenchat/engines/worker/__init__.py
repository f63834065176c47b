"""The child's side of llama.cpp in a child process, and the only importer of llama_cpp."""
