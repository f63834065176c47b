"""How a model is told of tools, and how its calls are read: Qwen2's own format and the one of Hermes."""
