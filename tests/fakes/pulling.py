"""What the tests of downloads share: content that passes for a model, a quick retry policy, one call that pulls."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub

from qwenchat.models.download.destination import CacheDestination, Destination
from qwenchat.models.download.http import Timeouts
from qwenchat.models.download.plan import DownloadPlan, FileSelection
from qwenchat.models.download.progress import PullEvent
from qwenchat.models.download.pull import PullOptions, pull
from qwenchat.models.download.retry import RetryPolicy
from qwenchat.models.sources.huggingface import HubSource
from qwenchat.models.sources.source import Source
from tests.fakes.standin_hub import StandIn

if TYPE_CHECKING:
    import pytest

REPO = "Qwen/Qwen2-7B-Instruct-GGUF"
NAME = "qwen2-7b-instruct-q4_k_m.gguf"
QUICK = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.01)
"""Tries again at once. A server that holds back is waited for: tests let it go on (`StandIn.go_on`)."""
SHORT_TIMEOUTS = Timeouts(silence_s=0.5)
"""Gives up a silent server soon."""


def model_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that begin as a model file does."""
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


@contextmanager
def without_proxies(patch: "pytest.MonkeyPatch") -> Iterator[None]:
    """Leave out the machine's proxies and certificates."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        patch.delenv(name, raising=False)
        patch.delenv(name.lower(), raising=False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()  # it keeps the proxies that it began with


@dataclass
class Puller:
    """Pulls into one cache and keeps what was reported."""

    cache: Path
    source: Source
    events: list[PullEvent] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    each: Callable[[PullEvent], object] = lambda event: None
    options: PullOptions = field(default_factory=lambda: PullOptions(retry_policy=QUICK, report_every_s=0.01))

    @classmethod
    def of(cls, standin: StandIn, cache: Path, token: str | None = None) -> "Puller":
        return cls(cache, HubSource("hf", standin.endpoint, token))

    def __call__(self, selection: FileSelection | None = None, destination: Destination | None = None) -> Path:
        selection = selection or FileSelection(REPO, NAME)
        destination = destination or CacheDestination(self.cache, selection.repo, self.source.name)
        plan = DownloadPlan(selection=selection, source=self.source, destination=destination)
        return pull(plan, self._report, self.stop, options=self.options)

    def seen(self, kind: type[PullEvent]) -> list[PullEvent]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def parts(self) -> list[Path]:
        """What is on disk of files that are not complete."""
        return [path for path in self.cache.rglob("*") if path.name.endswith((".incomplete", ".part"))]

    def _report(self, event: PullEvent) -> None:
        self.events.append(event)
        self.each(event)
