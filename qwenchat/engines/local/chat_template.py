"""Renders a model's own chat template, which is untrusted code, in a separate process.

The template runs in Jinja's immutable sandbox, in a child process with limits on memory and time. It never sees the
messages: it gets a mark for each message, and the parent replaces the marks afterwards. So no message can forge a
special token or hide another message.

The child is `python -m qwenchat.engines.local.chat_template`; `render` is the parent's side.
"""

import asyncio
import re
import secrets
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from qwenchat.chat.prompt import PromptPart, Special, Turn
from qwenchat.engines.local.failures import OTHER_MODEL
from qwenchat.engines.local.process import child_environment
from qwenchat.errors import CannotLoad
from qwenchat.i18n import _
from qwenchat.text.safe import clean_line

TIME_LIMIT_S = 5.0
MEMORY_LIMIT = 512 << 20
OUTPUT_LIMIT = 1 << 20
ERROR_LIMIT = 64 << 10
REASON_LIMIT = 500
"""Characters of an error's message: a template may raise one of any length."""
MARKS_PER_TURN = 4
"""How often, on average, a template may repeat a turn's content: each time costs the memory of the whole text."""


class RenderJob(msgspec.Struct, frozen=True):
    """A template and the messages that the child renders with it."""

    template: str
    messages: list[dict[str, str]]
    answer: bool
    bos: str
    eos: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered prompt."""

    parts: list[PromptPart]
    turns: list[int]
    """For each part, the index of its turn. The template's own text belongs to the turn after it; text at the end
    belongs to the last turn."""

    def of_turn(self, index: int) -> list[PromptPart]:
        """Return the parts that one turn adds to the prompt."""
        return [part for part, turn in zip(self.parts, self.turns, strict=True) if turn == index]


async def render(template: str, turns: Sequence[Turn], *, bos: str, eos: str, continuing: bool = False) -> Rendered:
    """Return the prompt that the template makes of the turns, ending where an answer begins.

    If `continuing`, the last turn is left open. Raises CannotLoad when the template fails, takes too long, or omits or
    changes the last message.
    """
    nonce = secrets.token_hex(8)
    contents = {f"mark{nonce}x{i}x": turn for i, turn in enumerate(turns)}
    messages = [{"role": turn.role, "content": mark} for mark, turn in contents.items()]
    text = await _ask_child(RenderJob(template, messages, answer=not continuing, bos=bos, eos=eos))
    last = messages[-1]["content"]
    if last not in text:
        raise _unusable(_("it omits or changes the last message"))
    if continuing:
        text = text[: text.index(last) + len(last)]
    rendered = _rendered(text, contents)
    if len(rendered.parts) > MARKS_PER_TURN * 2 * len(turns) + 1:
        raise _unusable(_("it repeats the messages too often"))
    return rendered


def _rendered(text: str, contents: Mapping[str, Turn]) -> Rendered:
    pieces = [piece for piece in re.split("(" + "|".join(contents) + ")", text) if piece]
    indexes = {mark: index for index, mark in enumerate(contents)}
    index, turns = len(contents) - 1, deque[int]()
    for piece in reversed(pieces):
        index = indexes.get(piece, index)
        turns.appendleft(index)
    return Rendered([contents[piece].content if piece in contents else Special(piece) for piece in pieces], list(turns))


async def _ask_child(job: RenderJob) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # import nothing from the working folder
        "-m",
        "qwenchat.engines.local.chat_template",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
        process_group=0,  # Ctrl-C in a terminal is for the parent
    )
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            out, err = await _exchange(child, msgspec.json.encode(job))
            await child.wait()
    except TimeoutError:
        raise _unusable(_("it takes too long")) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise _unusable(clean_line(last, REASON_LIMIT) or _("it fails"))
    return out.decode("utf-8", "replace")


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
        _("Choose another file of this model, or continue plain text with --complete."),
        recoveries=(OTHER_MODEL,),
    )


def _limit() -> None:
    """Limit the memory and the time of this process, where the platform supports it."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (int(TIME_LIMIT_S), int(TIME_LIMIT_S)))


def main() -> int:
    """Read a job from standard input and write the rendered text."""
    import jinja2  # noqa: PLC0415 - only the child needs it
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=RenderJob)
    _limit()

    def refuse(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals["raise_exception"] = refuse
    length = 0
    try:
        template = environment.from_string(job.template)
        for piece in template.generate(
            messages=job.messages, add_generation_prompt=job.answer, bos_token=job.bos, eos_token=job.eos
        ):
            length += len(piece)
            if length > OUTPUT_LIMIT:
                refuse("its output is too long")
            sys.stdout.buffer.write(piece.encode("utf-8", "replace"))
    except (
        jinja2.TemplateError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        AttributeError,
        KeyError,
    ) as error:
        print(f"{type(error).__name__}: {str(error)[:REASON_LIMIT]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
