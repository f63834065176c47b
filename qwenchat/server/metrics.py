"""What a server has done, as numbers in the text format of Prometheus; nothing of single requests or clients."""

from collections import Counter
from collections.abc import Iterator

from qwenchat.chat.events import Finished
from qwenchat.runtime.served_models import ServedModels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts since the server was started."""

    def __init__(self) -> None:
        self._responses: Counter[tuple[str, int]] = Counter()
        self._prompt = self._cached = self._generated = 0
        self._prefill_s = self._decode_s = 0.0

    def count_response(self, path: str, status: int) -> None:
        """Count a response; `path` is one of the server's own."""
        self._responses[path, status] += 1

    def count_answer(self, finished: Finished) -> None:
        """Count what an answer took."""
        usage, timings = finished.usage, finished.timings
        self._prompt += usage.prompt_tokens
        self._cached += usage.cached_tokens
        self._generated += usage.completion_tokens
        self._prefill_s += timings.prefill_s
        self._decode_s += timings.decode_s

    def text(self, served: ServedModels) -> str:
        """Return all numbers, with how many requests wait and run now."""
        lines = [
            *_metric("requests_running", "gauge", "Requests that are generated for.", served.running),
            *_metric("requests_waiting", "gauge", "Requests that wait for their turn.", served.waiting),
            *_metric("model_loaded", "gauge", "Whether a model is loaded.", int(served.info is not None)),
            *_metric("prompt_tokens_total", "counter", "Tokens of prompts.", self._prompt),
            *_metric("cached_tokens_total", "counter", "Of these, found in the KV cache.", self._cached),
            *_metric("generated_tokens_total", "counter", "Tokens of answers.", self._generated),
            *_metric("prefill_seconds_total", "counter", "Seconds of prefill.", round(self._prefill_s, 6)),
            *_metric("decode_seconds_total", "counter", "Seconds of decoding.", round(self._decode_s, 6)),
            *_head("http_responses_total", "counter", "Responses by path and status."),
        ]
        for (path, status), count in sorted(self._responses.items()):
            lines.append(f'qwenchat_http_responses_total{{path="{path}",status="{status}"}} {count}')
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP qwenchat_{name} {words}"
    yield f"# TYPE qwenchat_{name} {kind}"


def _metric(name: str, kind: str, words: str, value: float) -> Iterator[str]:
    yield from _head(name, kind, words)
    yield f"qwenchat_{name} {value}"
