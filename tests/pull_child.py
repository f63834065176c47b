"""A program of its own that pulls from a stand-in: `python -m tests.pull_child ENDPOINT CACHE`. It can be killed."""

import sys
from pathlib import Path

from qwenchat.models.hub import HubSource
from tests.pulling import Puller


def main() -> None:
    """Pull and print the path; what is reported goes to stderr, a line an event."""
    endpoint, cache = sys.argv[1:]
    puller = Puller(Path(cache), HubSource("hf", endpoint))
    puller.each = lambda event: print(type(event).__name__, file=sys.stderr, flush=True)
    print(puller())


if __name__ == "__main__":
    main()
