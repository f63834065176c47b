"""Whether every token of a vocabulary comes out whole, however long it is.

    python -m tests.bench.tokens VOCABULARY.gguf

A file of Qwen2's own vocabulary (llama.cpp's repository has one, and any Qwen2 model will do) has 240 tokens of more
than 32 bytes, for which the binding's buffer is too small. Compares what our engine makes of each token with the bytes
that the file itself states.
"""

import argparse
import os
from pathlib import Path

from gguf import GGUFReader

from qwenchat.engines.worker.c_api import bindings
from qwenchat.engines.worker.vocabulary import Vocabulary

_LONG = 32


def stated(path: Path) -> list[bytes]:
    """Return the bytes of each token as the file has them."""
    texts = GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    back = {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}
    return [bytes(back[letter] for letter in text) for text in texts]


def main() -> None:
    """Compare them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vocabulary", type=Path)
    path = parser.parse_args().vocabulary
    c = bindings()
    params = c.llama_model_default_params()
    params.vocab_only = True
    ours = Vocabulary(c, c.llama_model_load_from_file(os.fsencode(path), params))
    texts = {
        token: text for token, text in enumerate(stated(path)) if not c.llama_vocab_is_control(ours.pointer, token)
    }
    wrong = [token for token, text in texts.items() if ours.piece(token) != text]
    long = sum(len(text) > _LONG for text in texts.values())
    print(f"{len(texts):,} tokens that are text, {long} longer than {_LONG} bytes, {len(wrong)} wrong")


if __name__ == "__main__":
    main()
