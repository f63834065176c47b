"""How well the guide knows its program: `python -m tests.bench.guide [--model FILE] [--wrong]`.

Puts the whole examination to the committed model through llama.cpp and prints a Markdown table; `--wrong` lists what
it got wrong, which is to be read after training and never to be trained on.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.local.engine import LocalEngine
from tests.fakes import guide
from tests.fakes.engines import GREEDY, answer, questions
from training.guide import corpus


async def examine(model: Path, show_wrong: bool) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        async with guide.guide(Path(folder), model) as made:
            await made.load()
            started = time.perf_counter()
            first = await answer(made, questions("How do I export a session?"))
            seconds = time.perf_counter() - started
            print(
                f"first token after {first.timings.ttft_s * 1000:.1f} ms ({seconds:.2f} s in all), "
                f"{first.timings.decode_tps:,.0f} tokens/s, prefill {first.timings.prefill_tps:,.0f} tokens/s\n"
            )
            print("| set, greedy | en | zh |\n|---|---|---|")
            everything = []
            for label, questions_of in guide.SETS.items():
                said = [await guide.put(made, questions_of(language)) for language in corpus.LANGUAGES]
                everything += [one for each in said for one in each]
                print(f"| {label} | {' | '.join(f'{guide.share(each):.1%} of {len(each)}' for each in said)} |")
                samples = [guide.share(guide.sampled(each)) for each in said]
                print(f"| {label}, the tests' sample | {' | '.join(f'{one:.1%}' for one in samples)} |")
            _rest(everything)
            await _at(made, everything, Sampling(temperature=0.7, top_p=0.8, top_k=20, repeat_penalty=1.1))
    if show_wrong:
        for one in everything:
            if not one.right:
                print(one.question.language, one.question.topics, one.question.text, "->", one.topic or one.text)


def _rest(said: list[guide.Said]) -> None:
    inside = [one for one in said if corpus.OUTSIDE not in one.question.topics]
    for label, chosen in (
        ("in scope, wrongly refused", lambda one: one.topic == corpus.OUTSIDE),
        ("in scope, no known answer", lambda one: not one.topic),
    ):
        shares = []
        for language in corpus.LANGUAGES:
            mine = [one for one in inside if one.question.language == language]
            shares.append(f"{sum(map(chosen, mine)) / len(mine):.1%}")
        print(f"| {label} | {' | '.join(shares)} |")
    print(f"| ends by itself within {guide.LONGEST} tokens | {sum(one.ended for one in said) / len(said):.1%} | |")


async def _at(made: LocalEngine, greedy: list[guide.Said], sampling: Sampling) -> None:
    for label, chosen, system in (
        ("by hand, Qwen2's usual sampling", sampling, ""),
        ("by hand, another system prompt", GREEDY, "You are a grumpy librarian who loves tea."),
    ):
        shares = []
        for language in corpus.LANGUAGES:
            said = await guide.put(made, guide.written("hand", language), chosen, system)
            shares.append(f"{guide.share(said):.1%}")
        print(f"| {label} | {' | '.join(shares)} |")


def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=guide.MODEL)
    parser.add_argument("--wrong", action="store_true")
    options = parser.parse_args()
    asyncio.run(examine(options.model, options.wrong))


if __name__ == "__main__":
    main()
