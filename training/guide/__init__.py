"""The guide, a small model that knows this program: its corpus, the network, training it, writing it as GGUF."""
