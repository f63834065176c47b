"""Checks a JSON Schema before anything is loaded, saved or asked.

A hostile or huge schema can exhaust the memory, the time or the stack of the process that compiles it, so a child
process does that (`compiler`), and this side stays responsive. Nothing is compiled here.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from qwenchat.children import start_module
from qwenchat.engines.schema.refusal import LARGEST_TEXT, Reason, SchemaRefused, refused
from qwenchat.errors import WrongUse

TIME_LIMIT_S = 10.0
"""For the child, which needs less than half a second for a usual schema."""
_CHILDREN = 4
"""At a time."""


async def check_schema(text: str) -> None:
    """Return if an answer can be made to follow a schema, given as JSON. Raises WrongUse, which says why it can't."""
    if len(text) > LARGEST_TEXT:
        raise refused(SchemaRefused(Reason.TOO_LARGE))
    child = await start_module("qwenchat.engines.schema.compiler")
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            out, err = await child.communicate(text.encode("utf-8", "replace"))
    except TimeoutError:
        raise refused(SchemaRefused(Reason.TOO_COMPLEX)) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode and child.returncode > 0:
        raise RuntimeError(err.decode("utf-8", "replace"))
    if child.returncode:  # it was killed by what the schema made it do
        raise refused(SchemaRefused(Reason.TOO_COMPLEX))
    if out:
        refusal = msgspec.json.decode(out, type=dict[str, str])
        raise refused(SchemaRefused(Reason(refusal["reason"]), refusal["pointer"], refusal["detail"]))


async def enforceable(texts: Sequence[str]) -> set[str]:
    """Return which of several schemas, given as JSON, answers can be made to follow.

    A child takes a tenth of a second however many schemas it compiles, so all that point to no part of themselves are
    put into one; they are checked one by one where that one is refused.
    """
    together = [text for text in texts if "$" not in text]
    if len(together) > 1 and await _is_enforceable(f'{{"items": false, "prefixItems": [{", ".join(together)}]}}'):
        alone = [text for text in texts if "$" in text]
    else:
        together, alone = [], [*texts]
    children = asyncio.Semaphore(_CHILDREN)

    async def check_alone(text: str) -> bool:
        async with children:
            return await _is_enforceable(text)

    found = await asyncio.gather(*map(check_alone, alone))
    return {*together, *(text for text, is_good in zip(alone, found, strict=True) if is_good)}


async def _is_enforceable(text: str) -> bool:
    try:
        await check_schema(text)
    except WrongUse:
        return False
    return True
