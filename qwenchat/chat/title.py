"""A session's title in the model's own words: what the model is asked, and one short line out of its reply.

The exchange is stored nowhere and belongs to no session. Where the model gives no title, or is one that reads no
conversations, the first question is the title, as for every new session. Saving it is the caller's task.
"""

import re
from collections.abc import Sequence
from contextlib import aclosing

from qwenchat.chat.events import Delta
from qwenchat.chat.message import Message, Role
from qwenchat.chat.ports import Engine, Request
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import title_of
from qwenchat.chat.streaming import StreamingAnswer
from qwenchat.text.language import is_chinese
from qwenchat.text.safe import clean_line, encodable

_LONGEST = Sampling(temperature=0.0, max_tokens=48)
"""The likeliest title, and tokens enough for one in any language."""
_TURNS = 4
"""Messages from the beginning that the model sees; what follows seldom changes what a chat is about."""
_EXCERPTS = (1500, 400, 100)
"""Characters of each message, the most that fits the window."""
_UNSTORED = Message(id="", session="", parent=None, role=Role.ASSISTANT, parts=(), created=0)
"""The reply before its first word."""
_LABEL = re.compile(r"^(?:title|标题|題目|题目)\s*[:：]\s*", re.IGNORECASE)
_MARKS = " \t#*_`'\"“”‘’「」『』《》<>"
_STOPS = ".。,，;；:："


async def suggest(engine: Engine, branch: Sequence[Message]) -> str:
    """Return a title for a branch, empty only where nothing was asked.

    Raises CannotLoad and EngineDied. Cancelling the call stops the model.
    """
    questions = [message.text for message in branch if message.role is Role.USER and not message.summarises]
    fallback = title_of(next((text for text in questions if text.strip()), ""))
    if not fallback:
        return ""
    info = await engine.load()
    if not info.reads_history:
        return fallback
    turns = await _fitting(engine, branch, info.n_ctx - (_LONGEST.max_tokens or 0))
    if not turns:
        return fallback
    answer = StreamingAnswer(_UNSTORED, inside_reasoning=info.opens_reasoning)
    async with aclosing(engine.generate(Request(turns=tuple(turns), sampling=_LONGEST.over(info.defaults)))) as events:
        async for event in events:
            if isinstance(event, Delta):
                answer.add(event)
    answer.finish()
    return title_in(answer.snapshot().text) or fallback


def title_in(reply: str) -> str:
    """Return the title in a model's reply as one clean line, without the marks and labels that models put around it."""
    for line in encodable(reply).splitlines():
        title = _LABEL.sub("", clean_line(line, 1000).strip(_MARKS)).strip(_MARKS).rstrip(_STOPS).strip(_MARKS)
        if title:
            return title_of(title)
    return ""


async def _fitting(engine: Engine, branch: Sequence[Message], room: int) -> list[Turn]:
    """Return the turns that ask for a title, with excerpts as long as there is room for; none where there is not."""
    for length in _EXCERPTS:
        turns = _asking(branch[:_TURNS], length)
        if (await engine.count(turns)).total <= room:
            return turns
    return []


def _asking(messages: Sequence[Message], length: int) -> list[Turn]:
    said = [f"{message.role.value}: {message.text.strip()[:length]}" for message in messages if message.text.strip()]
    conversation = "\n\n".join(said)
    if is_chinese(conversation[:200]):
        wish = "请给上面的对话起一个不超过十五个字的标题，说明它是关于什么的。只回复标题本身。"
    else:
        wish = (
            "Give the conversation above a title of at most seven words on what it is about. Reply with the title only."
        )
    return [Turn("user", f"{conversation}\n\n---\n{wish}")]
