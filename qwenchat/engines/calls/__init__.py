"""How tools are described to a model, and how its calls are read: Qwen2's own format and that of Hermes."""
