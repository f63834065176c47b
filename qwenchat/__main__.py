"""`qwenchat` and `python -m qwenchat`."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from qwenchat.cli.main import main as run  # noqa: PLC0415 - the worker imports this package too

    sys.exit(run())


if __name__ == "__main__":
    main()
