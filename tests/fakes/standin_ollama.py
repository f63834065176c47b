"""An Ollama on loopback that does what makes the real one dangerous: it cuts prompts silently unless it is forbidden.

A token is a word here, and every message takes four more. `seen` has the messages that the model read, after merging
and cutting; `loads` each window that a model was loaded with.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.standin_chat import cut
from tests.fakes.standin_server import Asked, Piece, Reply, StandinServer, Then, json_reply

CLASSIC = "{{ if .System }}{{ .System }}{{ end }}{{ if .Prompt }}{{ .Prompt }}{{ end }}{{ .Response }}"
ROLLING = (
    "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 -}}{{ .Content }}"
    '{{ if not $last }}<|im_end|>{{ end }}{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant{{ end }}'
    "{{- end }}{{ .Response }}"
)
"""Goes through the messages and leaves the last answer open, as the templates of Qwen2.5 do."""
CLOSED = "{{- range .Messages }}{{ .Role }}: {{ .Content }}<|im_end|>{{- end }}assistant:"


@dataclass(kw_only=True)
class OllamaModel:
    """A model, and what it says whatever it is asked."""

    says: Sequence[str] = ("Good ", "day.")
    thinks: Sequence[str] = ()
    trained: int = 32768
    template: str = CLASSIC
    parameters: str = ""
    modelfile: str = "FROM /blob"
    capabilities: tuple[str, ...] = ("completion",)
    size: int = 4_683_087_332
    remote_host: str = ""
    error: dict[str, Any] | None = None
    """What is said in place of the end."""
    waits: Sequence[Piece] = ()
    """What is waited for after the text."""


@dataclass(kw_only=True)
class StandinOllama:
    """The server; `serve` makes a `StandinServer` answer as it does."""

    models: dict[str, OllamaModel] = field(default_factory=dict)
    usual_window: int = 4096
    loaded: dict[str, int] = field(default_factory=dict)
    """The windows of loaded models."""
    loads: list[int] = field(default_factory=list)
    seen: list[list[dict[str, str]]] = field(default_factory=list)
    cut: int = 0
    """How many prompts were cut silently, or windows shifted."""

    def serve(self, server: StandinServer) -> None:
        """Answer the requests to a server."""
        server.reply("/api/version", json_reply({"version": "0.17.1"}))
        server.reply("/api/tags", lambda asked: json_reply({"models": [*self._tags()]}))
        server.reply("/api/ps", lambda asked: json_reply({"models": [*self._running()]}))
        server.reply("/api/show", self._show)
        server.reply("/api/chat", self._chat)
        server.reply("/api/generate", self._generate)

    def _tags(self) -> Iterator[dict[str, Any]]:
        for name, model in self.models.items():
            details = {"format": "gguf", "family": "qwen2", "parameter_size": "7.6B", "quantization_level": "Q4_K_M"}
            tag = {"name": name, "model": name, "size": model.size, "digest": "845dbda0ea48", "details": details}
            yield tag | ({"remote_host": model.remote_host} if model.remote_host else {})

    def _running(self) -> Iterator[dict[str, Any]]:
        for name, window in self.loaded.items():
            yield {"name": name, "model": name, "size": 1, "size_vram": 0, "context_length": window}

    def _show(self, asked: Asked) -> Reply:
        name = asked.json["model"]
        if name not in self.models:
            return _missing(name)
        model = self.models[name]
        shown = {
            "modelfile": model.modelfile,
            "parameters": model.parameters,
            "template": model.template,
            "model_info": {"general.architecture": "qwen2", "qwen2.context_length": model.trained},
            "capabilities": model.capabilities,
        }
        return json_reply(shown)

    def _load(self, name: str, options: dict[str, Any]) -> int:
        window: int = min(options.get("num_ctx", self.usual_window), self.models[name].trained)
        if self.loaded.get(name) != window:
            self.loads.append(window)
            self.loaded[name] = window
        return window

    def _chat(self, asked: Asked) -> Reply:
        body = asked.json
        if body["model"] not in self.models:
            return _missing(body["model"])
        window = self._load(body["model"], body.get("options", {}))
        if not body["messages"]:
            return json_reply({"model": body["model"], "message": {"role": "assistant", "content": ""}} | _DONE_LOADING)
        return self._answer(body, _collated(body["messages"]), window, in_message=True)

    def _generate(self, asked: Asked) -> Reply:
        body = asked.json
        window = self._load(body["model"], body.get("options", {}))
        return self._answer(body, [{"role": "user", "content": body["prompt"]}], window, in_message=False)

    def _answer(self, body: dict[str, Any], messages: list[dict[str, str]], window: int, *, in_message: bool) -> Reply:
        model = self.models[body["model"]]
        if body.get("think") and "thinking" not in model.capabilities:
            return json_reply({"error": f'"{body["model"]}" does not support thinking'}, 400)
        if _tokens(messages) > window:
            if not body.get("truncate", True):
                return json_reply({"error": "the input length exceeds the context length"}, 400)
            while _tokens(messages) > window and len(messages) > 1:
                del messages[1 if messages[0]["role"] == "system" else 0]
            self.cut += 1
        self.seen.append(messages)
        texts, reason = _limited(model.says, body.get("options", {}), room=window - _tokens(messages))
        if reason == "window" and body.get("shift", True):
            texts, reason, self.cut = [*model.says], "stop", self.cut + 1
        lines = [*_lines(model.thinks, "thinking", in_message), *_lines(texts, "content", in_message)]
        end = model.error or _done(body["model"], messages, texts, "length" if reason == "window" else reason)
        return _reply(lines, end, model.waits)


def _missing(name: str) -> Reply:
    return json_reply({"error": f"model '{name}' not found"}, 404)


_DONE_LOADING = {"done": True, "done_reason": "load"}


def _collated(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    collated: list[dict[str, str]] = []
    for message in messages:
        if collated and collated[-1]["role"] == message["role"]:
            collated[-1]["content"] += "\n\n" + message["content"]
        else:
            collated.append(dict(message))
    return collated


def _tokens(messages: Sequence[dict[str, str]]) -> int:
    return sum(4 + len(message["content"].split()) for message in messages)


def _limited(says: Sequence[str], options: dict[str, Any], *, room: int) -> tuple[list[str], str]:
    """Return the pieces, a token each, that are said, and why they end; the reason `window` is not yet Ollama's."""
    most = options.get("num_predict", -1)
    if 0 <= most < len(says) and most <= room:
        return [*says[:most]], "length"
    return ([*says[:room]], "window") if room < len(says) else ([*says], "stop")


def _lines(texts: Sequence[str], name: str, in_message: bool) -> list[dict[str, Any]]:
    if in_message:
        return [{"message": {"role": "assistant", "content": "", name: text}, "done": False} for text in texts]
    return [{("response" if name == "content" else name): text, "done": False} for text in texts]


def _done(name: str, messages: Sequence[dict[str, str]], texts: Sequence[str], reason: str) -> dict[str, Any]:
    return {
        "model": name,
        "done": True,
        "done_reason": reason,
        "total_duration": 4_000_000_000,
        "load_duration": 1_000_000_000,
        "prompt_eval_count": _tokens(messages),
        "prompt_eval_duration": 500_000_000,
        "eval_count": len(texts),
        "eval_duration": 2_000_000_000,
    }


def _reply(lines: Sequence[dict[str, Any]], end: dict[str, Any], waits: Sequence[Piece]) -> Reply:
    def encoded(value: dict[str, Any]) -> bytes:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"

    pieces = (*cut(b"".join(map(encoded, lines))), *waits, *cut(encoded(end)))
    return Reply(content_type="application/x-ndjson", pieces=pieces, then=Then.END)
