"""The models that tests make are real ones: llama.cpp loads them, and a chain says what it was made to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.ggufs import AWKWARD, Chain, Experts, Shape, write_chain, write_model

GREEDY = """
import ctypes, json, sys
from llama_cpp import llama_cpp as c
path, prompt, limit = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
c.llama_log_set(log := c.llama_log_callback(lambda level, text, data: None), None)
c.llama_backend_init()
model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
if not model:
    sys.exit(3)
params = c.llama_context_default_params()
params.n_ctx, params.n_threads, params.type_k, params.type_v = 512, 1, 8, 8
context, vocab = c.llama_init_from_model(model, params), c.llama_model_get_vocab(model)
tokens = (c.llama_token * 512)()
count = c.llama_tokenize(vocab, prompt, len(prompt), tokens, 512, False, True)
ids, pieces = list(tokens[:count]), []
piece = ctypes.create_string_buffer(1000)
def text(token):
    size = c.llama_token_to_piece(vocab, token, piece, 1000, 0, True)
    return piece.raw[:size].hex()
told = "".join(text(token) for token in ids)
sampler, out = c.llama_sampler_init_greedy(), []
batch = c.llama_batch_get_one(tokens, count)
while len(out) < limit:
    assert c.llama_decode(context, batch) == 0
    token = c.llama_sampler_sample(sampler, context, -1)
    if c.llama_vocab_is_eog(vocab, token):
        break
    out.append(token)
    batch = c.llama_batch_get_one((c.llama_token * 1)(token), 1)
print(json.dumps({"prompt": told, "ids": out, "pieces": [text(token) for token in out], "count": count}))
"""
PROMPT = "<|im_start|>user\nHello world, 你好 🐼\x1b      <|im_end|>\n<|im_start|>assistant\n"


def generate(path: Path, limit: int = 100) -> dict[str, object]:
    """Let llama.cpp answer in a process of its own."""
    words = [sys.executable, "-c", GREEDY, str(path), PROMPT, str(limit)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "answer", [AWKWARD, "The cat saw the dog and the dog saw the cat, and that is all there is to it.\n\n好的。"]
)
def test_a_chain_says_what_it_was_made_to_say(tmp_path: Path, answer: str | tuple[bytes, ...]) -> None:
    chain = write_chain(tmp_path / "chain.gguf", answer)
    said = generate(chain.path)
    assert said["ids"] == list(chain.ids)
    assert said["pieces"] == [token.hex() for token in chain.tokens]
    if isinstance(answer, str):
        assert chain.text == answer


def test_a_chain_may_have_no_end(tmp_path: Path) -> None:
    chain: Chain = write_chain(tmp_path / "loop.gguf", [b"round ", b"and "], ends=False)
    assert generate(chain.path, limit=50)["ids"] == list(chain.ids) * 25


@pytest.mark.parametrize("shape", [Shape(), Shape(tied=False), Shape(tied=False, experts=Experts())])
def test_random_models_load_and_their_vocabulary_is_whole(tmp_path: Path, shape: Shape) -> None:
    said = generate(write_model(tmp_path / "m.gguf", shape=shape), limit=4)
    assert said["prompt"] == PROMPT.encode().hex()
    assert isinstance(said["count"], int) and said["count"] < len(PROMPT.encode()) - 50


def test_a_split_model_loads_from_its_first_part(tmp_path: Path) -> None:
    first = write_model(tmp_path / "m.gguf", tensors_per_part=10)
    assert first.name == "m-00001-of-00003.gguf"
    assert generate(first, limit=4)["ids"] == generate(write_model(tmp_path / "one.gguf"), limit=4)["ids"]
