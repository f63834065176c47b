"""Renders a model's own chat template, which is untrusted code, in a separate process (`template_sandbox`).

The template never sees the messages: it gets a mark for each message, and this side replaces the marks afterwards. So
no message can forge a special token or hide another message.
"""

import asyncio
import re
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from qwenchat.chat.prompt import PromptPart, Special, Turn
from qwenchat.children import start_module
from qwenchat.engines.template_sandbox import REASON_LIMIT, ChatText, RenderJob, TemplateChat
from qwenchat.errors import CannotLoad, Recovery, RecoveryKind
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

TIME_LIMIT_S = 20.0
"""Seconds until a child is ended that waits or computes: the sandbox's own limit counts only what it computes."""
ERROR_LIMIT = 64 << 10
MARKS_PER_TURN = 4
"""How often, on average, a template may repeat a turn's content: each time costs the memory of the whole text."""

_texts = msgspec.json.Decoder(list[ChatText])


class Rendered(Struct, frozen=True):
    """A prompt, and which of its turns each part belongs to."""

    parts: list[PromptPart]
    turns: list[int | None]
    """For each part, the index of its turn; None for what the prompt has whatever its turns are.

    A template's own text belongs to the turn after it; text at the end belongs to the last turn.
    """

    def of_turn(self, index: int) -> list[PromptPart]:
        """Return the parts that one turn adds to the prompt."""
        return [part for part, turn in zip(self.parts, self.turns, strict=True) if turn == index]

    def parts_of_last(self, turns: int) -> int:
        """Return how many parts the last `turns` turns take, with what follows them."""
        first = max((turn for turn in self.turns if turn is not None), default=0) + 1 - turns
        before = next((place for place, turn in enumerate(self.turns) if turn is not None and turn >= first), None)
        return 0 if before is None else len(self.parts) - before


class TemplateSandbox:
    """A child process that renders one job, created by `start`; it waits for the job."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @classmethod
    async def start(cls) -> "TemplateSandbox":
        """Start the child."""
        child = await start_module("qwenchat.engines.template_sandbox")
        return cls(child)

    async def render(self, job: RenderJob) -> list[ChatText]:
        """Return what the template writes for each chat. Raises CannotLoad."""
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                out, err = await _exchange(self._child, msgspec.json.encode(job))
                code = await self._child.wait()
        except TimeoutError:
            raise _unusable(_("it takes too long")) from None
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            raise _unusable(_("it takes too long"))
        if code:
            last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise _unusable(clean_line(last, REASON_LIMIT) or _("it fails"))
        return _texts.decode(out)

    async def close(self) -> None:
        """End the child if it has not ended."""
        if self._child.returncode is None:
            self._child.kill()
            await self._child.wait()


class ChatTemplate(Struct, frozen=True, kw_only=True):
    """A model's template, and what it may write beside the messages."""

    source: str
    bos: str
    eos: str
    clock: Callable[[], datetime] = datetime.now
    """Local time, for templates that write the date."""

    async def render(self, *chats: Sequence[Turn], continuing: bool = False) -> list[Rendered | CannotLoad]:
        """Return the prompt that the template makes of each chat, ending where an answer begins, or why it makes none.

        If `continuing`, the last turn is left open. A prompt that omits or changes the last message is refused. Raises
        CannotLoad if the template is broken or takes too long.
        """
        nonce = secrets.token_hex(8)
        marked = [{f"mark{nonce}x{i}x": turn for i, turn in enumerate(turns)} for turns in chats]
        texts = await self.texts(
            [[Turn(turn.role, mark) for mark, turn in contents.items()] for contents in marked], continuing=continuing
        )
        return [_rendered(text, contents, continuing) for text, contents in zip(texts, marked, strict=True)]

    async def texts(
        self, chats: Sequence[Sequence[Turn]], *, continuing: bool = False, sandbox: TemplateSandbox | None = None
    ) -> list[ChatText]:
        """Return what the template writes for each chat; it sees the texts of the turns. Raises CannotLoad.

        `sandbox` is one that was started before, to save the time that this takes.
        """
        job = RenderJob(
            template=self.source,
            chats=[
                TemplateChat([{"role": turn.role, "content": turn.text} for turn in turns], answer=not continuing)
                for turns in chats
            ],
            bos=self.bos,
            eos=self.eos,
            now=self.clock(),
        )
        sandbox = sandbox or await TemplateSandbox.start()
        try:
            return await sandbox.render(job)
        finally:
            await sandbox.close()


def _rendered(rendered: ChatText, contents: Mapping[str, Turn], continuing: bool) -> Rendered | CannotLoad:
    """Put the messages in the place of their marks."""
    if rendered.error:
        return _unusable(clean_line(rendered.error, REASON_LIMIT))
    text, last = rendered.text, list(contents)[-1]
    if last not in text:
        return _unusable(_("it omits or changes the last message"))
    if continuing:
        text = text[: text.rindex(last) + len(last)]
    pieces = [piece for piece in re.split("(" + "|".join(contents) + ")", text) if piece]
    if len(pieces) > MARKS_PER_TURN * 2 * len(contents) + 1:
        return _unusable(_("it repeats the messages too often"))
    indexes = {mark: index for index, mark in enumerate(contents)}
    index, turns = len(contents) - 1, deque[int | None]()
    for piece in reversed(pieces):
        index = indexes.get(piece, index)
        turns.appendleft(index)
    return Rendered([contents[piece].content if piece in contents else Special(piece) for piece in pieces], list(turns))


async def _exchange(child: asyncio.subprocess.Process, job: bytes) -> tuple[bytes, bytes]:
    """Send the child its job; return its output and the end of its error output."""
    if not (child.stdin and child.stdout and child.stderr):
        raise AssertionError("the child was started with three pipes")
    child.stdin.write(job)
    child.stdin.write_eof()
    async with asyncio.TaskGroup() as group:
        out, err = group.create_task(child.stdout.read()), group.create_task(_tail(child.stderr))
    return out.result(), err.result()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    while block := await stream.read(ERROR_LIMIT):
        tail = (tail + block)[-ERROR_LIMIT:]
    return tail


def _unusable(reason: str) -> CannotLoad:
    return CannotLoad(
        _("The model's chat template can't be used: {reason}.").format(reason=reason),
        recoveries=(Recovery(RecoveryKind.OTHER_MODEL), Recovery(RecoveryKind.COMPLETE)),
    )
