"""How long the list of models takes to be there: without a server, and beside one that accepts and never answers.

    python -m tests.bench.model_list [--rounds 11]

Both are opened in turns in this process, headless, with one model on this machine; medians are compared. Prints a
Markdown table.
"""

import argparse
import asyncio
import socket
import statistics
import tempfile
import time
from pathlib import Path

from qwenchat import config
from qwenchat.engine_settings import EngineSettings
from qwenchat.runtime.downloads import BackgroundDownloads
from qwenchat.tui.dialogs.model import ModelScreen
from tests.fakes.ggufs import write_model
from tests.tui.dialogs import DialogApp, program_in


async def seconds_to_list(home: Path) -> float:
    """Return the seconds from opening the dialog to the first picture that has the model on this machine."""
    program = program_in(home)
    downloads = BackgroundDownloads(program)
    app = DialogApp()
    try:
        async with app.run_test(size=(100, 30)):
            began = time.perf_counter()
            await app.push_screen(ModelScreen(program, "", downloads))
            while "here" not in app.words:
                await asyncio.sleep(0.001)
            return time.perf_counter() - began
    finally:
        downloads.close()


async def measure(rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return the seconds without a server, and beside a silent one."""
    silent = socket.create_server(("127.0.0.1", 0), backlog=100)  # the kernel accepts
    homes = folder / "none", folder / "silent"
    for home in homes:
        models = program_in(home).paths.models
        models.mkdir(parents=True)
        write_model(models / "here-q8_0.gguf", name="here")
    port = silent.getsockname()[1]
    config.put_engine(program_in(homes[1]).paths.settings, "lab", EngineSettings(url=f"http://127.0.0.1:{port}"))
    times: tuple[list[float], list[float]] = [], []
    for _round in range(rounds + 1):
        for home, found in zip(homes, times, strict=True):
            found.append(await seconds_to_list(home))
    silent.close()
    return times[0][1:], times[1][1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        without, beside = asyncio.run(measure(options.rounds, Path(folder)))
    one, other = statistics.median(without) * 1000, statistics.median(beside) * 1000
    print("| the list of models is there after | ms |\n|---|---|")
    print(f"| no server | {one:.0f} |\n| a silent server | {other:.0f} |\n| the server's share | {other - one:.0f} |")


if __name__ == "__main__":
    main()
