"""Pulls from a stand-in, in a process that can be killed: `python -m tests.fakes.pull_child ENDPOINT CACHE`."""

import sys
from pathlib import Path

from qwenchat.models.sources.huggingface import HubSource
from tests.fakes.pulling import Puller


def main() -> None:
    """Pull and print the path; what is reported goes to stderr, a line an event."""
    endpoint, cache = sys.argv[1:]
    puller = Puller(Path(cache), HubSource("hf", endpoint))
    puller.each = lambda event: print(type(event).__name__, file=sys.stderr, flush=True)
    print(puller())


if __name__ == "__main__":
    main()
