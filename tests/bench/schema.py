"""Whether answers follow the official JSON Schema suite: `python -m tests.bench.schema [--answers N]`.

Every schema is either refused, which is counted by reason, or gets random answers without a model, which `jsonschema`
judges. With `QWENCHAT_REAL_MODEL` set to a GGUF, the cost of a schema is measured too, in tokens a second.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from qwenchat.chat.sampling import Sampling
from qwenchat.engines.schema import compiler
from qwenchat.engines.schema.refusal import Reason, SchemaRefused
from tests.fakes import schemas
from tests.fakes.engines import answer, engine, questions

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "born": {"type": "string", "format": "date"},
        "city": {"enum": ["北京", "上海", "广州 🌆"]},
        "hobbies": {"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 3, "maxItems": 6},
        "about": {"type": "string", "minLength": 200, "maxLength": 400},
    },
    "required": ["name", "age", "born", "city", "hobbies", "about"],
}
QUESTION = "Describe Li Lei, who is 30 and lives in Shanghai, as JSON with name, age, born, city, hobbies and about."


def follow(answers: int) -> None:
    """Print what became of the suite's schemas."""
    refused, accepted, ended = Counter[str](), Counter[str](), 0
    wrong: list[str] = []
    for case in schemas.suite():
        try:
            compiler.check(case.text)
        except SchemaRefused as error:
            refused[_label(error)] += 1
            continue
        accepted[case.draft] += 1
        count, found = schemas.problems(case, answers, Random(case.name))
        ended += count
        wrong += [f"{case.name}: {each}" for each in found]
    print("| schemas of the official suite | |\n|---|---|")
    for draft, number in accepted.items():
        print(f"| accepted, {draft} | {number} |")
    print(f"| random answers to them that ended / were wrong | {ended:,} / {len(wrong)} |")
    print(f"| refused | {refused.total()} |")
    for label, number in refused.most_common():
        print(f"| refused: {label} | {number} |")
    print("\n".join(wrong))


def _label(error: SchemaRefused) -> str:
    return f"`{error.pointer.rpartition('/')[2]}`" if error.reason is Reason.KEYWORD else error.reason.replace("_", " ")


async def cost(model: Path) -> None:
    """Print tokens a second with and without a schema, in turns."""
    speeds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        async with engine(model, Path(folder)) as made:
            for seed in range(5):
                for label, schema in (("without", None), ("with", json.dumps(PERSON))):
                    said = await answer(made, questions(QUESTION), Sampling(seed=seed, max_tokens=200, schema=schema))
                    speeds[label].append(said.timings.decode_tps)
    for label, each in speeds.items():
        print(f"| tokens/s {label} a schema, median of {len(each)} | {statistics.median(each):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=20, help="random answers to each schema")
    follow(parser.parse_args().answers)
    if model := os.environ.get("QWENCHAT_REAL_MODEL"):
        asyncio.run(cost(Path(model)))


if __name__ == "__main__":
    main()
