"""Runs a model's chat template, which is code from a stranger, as Hugging Face's renderer would; in a child process.

`python -m qwenchat.engines.template_sandbox` reads one `RenderJob` from standard input, limits its own memory and
time, and writes one JSON list: a `ChatText` for each chat. `chat_template` is the parent's side. A template can compute
strings and do nothing else: it sees no file, and no object that it could change.
"""

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from qwenchat.limits import limit_this_process

if TYPE_CHECKING:
    from jinja2 import Environment

CPU_LIMIT_S = 3
"""Seconds of computing: a real template takes milliseconds; the rest is for starting Python on a slow machine."""
MEMORY_LIMIT = 512 << 20
OUTPUT_LIMIT = 1 << 20
"""Characters of the texts of one job."""
REASON_LIMIT = 500
"""Characters of an error's message: a template may raise one of any length."""


class TemplateChat(msgspec.Struct, frozen=True):
    """The messages of one prompt."""

    messages: list[dict[str, str]]
    answer: bool
    """Whether the prompt ends where an answer begins."""


class RenderJob(msgspec.Struct, frozen=True):
    """A template and the chats that it renders."""

    template: str
    chats: list[TemplateChat]
    bos: str
    eos: str
    now: datetime
    """The local time, for templates that write the date."""


class ChatText(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text of a chat, or why the template does not render it."""

    text: str = ""
    error: str = ""


def _environment() -> "Environment":
    """Return the sandbox, as Hugging Face's renderer has it."""
    import jinja2.ext  # noqa: PLC0415 - the parent imports this module for its types
    from jinja2 import nodes  # noqa: PLC0415
    from jinja2.parser import Parser  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class GenerationBlocks(jinja2.ext.Extension):
        """`{% generation %}` marks for training what the assistant said; a prompt has its contents alone."""

        def __init__(self, environment: jinja2.Environment) -> None:
            super().__init__(environment)
            self.tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def refuse(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = refuse
    return environment


def _render(environment: "Environment", job: RenderJob) -> list[ChatText]:
    """Render each chat. Raises what Jinja raises for a template that it can't compile."""
    environment.globals["strftime_now"] = job.now.strftime
    template = environment.from_string(job.template)
    texts = []
    room = OUTPUT_LIMIT
    for chat in job.chats:
        variables = {
            "messages": chat.messages,
            "add_generation_prompt": chat.answer,
            "bos_token": job.bos,
            "eos_token": job.eos,
            "tools": None,
            "documents": None,
        }
        try:
            text = ""
            for piece in template.generate(variables):
                text += piece
                if len(text) > room:
                    raise ValueError("its output is too long")
            texts.append(ChatText(text))
            room -= len(text)
        except Exception as error:  # a template may make Jinja raise anything
            texts.append(ChatText(error=_words(error)))
    return texts


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:REASON_LIMIT]}"


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Write JSON as templates expect it: nothing escaped for HTML, Chinese as it is."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main() -> int:
    """Read a job from standard input and write the rendered chats."""
    environment = _environment()  # before there is a job: this takes most of the time
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=RenderJob)
    limit_this_process(memory=MEMORY_LIMIT, cpu_s=CPU_LIMIT_S)
    try:
        texts = _render(environment, job)
    except Exception as error:  # as above
        print(_words(error), file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(texts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
