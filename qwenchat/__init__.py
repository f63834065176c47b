"""qwenchat: chat with Qwen2 models in a terminal, offline, on your own laptop."""

__version__ = "0.2.0"
