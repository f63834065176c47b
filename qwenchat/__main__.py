"""`qwenchat` and `python -m qwenchat`."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from qwenchat.cli.main import main as run  # noqa: PLC0415 - the worker imports this package too

        sys.exit(run())
    except KeyboardInterrupt:  # while modules are still being imported
        sys.exit(130)


if __name__ == "__main__":
    main()
