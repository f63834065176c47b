"""llama.cpp in a child process: the child's side, and the only importer of llama_cpp."""
