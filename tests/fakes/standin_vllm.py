"""A stand-in for vLLM on real HTTP: paths, shapes of replies, and a tokenizer that knows its markers in any text.

A token is a byte of UTF-8; the markers come behind, as in Qwen's vocabulary. Chats are rendered as Qwen2's template
does, unless a test sets another one.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.standin_server import Answer, Asked, Reply, StandinServer, event_stream, json_reply, standin_server

MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<tool_call>", "<think>", "</think>")
END = 258
_SPLIT = re.compile("|".join(map(re.escape, MARKERS)))


def tokenise(text: str) -> list[int]:
    """Return the tokens of a text; markers are recognised in it."""
    tokens: list[int] = []
    place = 0
    for marker in _SPLIT.finditer(text):
        tokens += text[place : marker.start()].encode()
        tokens.append(256 + MARKERS.index(marker[0]))
        place = marker.end()
    return [*tokens, *text[place:].encode()]


def detokenise(tokens: Sequence[int]) -> str:
    """Return the text of tokens, markers included."""
    return b"".join(MARKERS[each - 256].encode() if each > 255 else bytes([each]) for each in tokens).decode()


def chatml(messages: Sequence[Mapping[str, str]]) -> str:
    """Return what Qwen2's template writes."""
    system = "" if messages[0]["role"] == "system" else "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    turns = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    return f"{system}{turns}<|im_start|>assistant\n"


def completion(
    *said: tuple[str, Sequence[int]], finish: str = "stop", stop: str | int | None = None, prompt_tokens: int = 0
) -> Reply:
    """Return a streamed answer: a chunk for each text with its tokens, the usage at the end."""
    tokens = sum(len(ids) for _text, ids in said)
    chunks = [
        _chunk(text, ids, None if place < len(said) - 1 else finish, stop) for place, (text, ids) in enumerate(said)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + tokens, "completion_tokens": tokens}
    return event_stream(*chunks, {"choices": [], "usage": usage})


def _chunk(text: str, ids: Sequence[int], finish: str | None, stop: str | int | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": stop if finish else None,
        "prompt_token_ids": None,
        "token_ids": [*ids],
    }
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "qwen",
        "choices": [choice],
        "usage": None,
    }


@asynccontextmanager
async def standin_vllm(
    *answers: Answer,
    model: str = "Qwen/Qwen2-72B-Instruct",
    window: int = 4096,
    template: Callable[[Sequence[Mapping[str, str]]], str] = chatml,
    knows_tools: bool = False,
) -> AsyncIterator[StandinServer]:
    """Run a server of one model, which completes with `answers`; its template may know tools."""

    def tokens(asked: Asked) -> Reply:
        body = asked.json
        text = body["prompt"] if "prompt" in body else template(body["messages"])
        found = tokenise(text + "<tool_call>" * (knows_tools and "tools" in body))
        return json_reply({"count": len(found), "max_model_len": window, "tokens": found, "token_strs": None})

    card = {"id": model, "object": "model", "owned_by": "vllm", "root": model, "parent": None, "max_model_len": window}
    async with standin_server() as server:
        server.reply("/v1/models", json_reply({"object": "list", "data": [card]}))
        server.reply("/version", json_reply({"version": "0.33.0"}))
        server.reply("/tokenize", tokens)
        server.reply("/detokenize", lambda asked: json_reply({"prompt": detokenise(asked.json["tokens"])}))
        server.reply("/v1/completions", *answers)
        yield server
