"""The guide, a small model that knows this program: the GGUF file beside this. How it is made is in training/guide."""
