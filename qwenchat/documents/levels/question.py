"""Understands a question for a search: what it means without the chat before it, and the words to look for.

The model writes a question and keywords as JSON, in the languages of the documents. The question's own words are
always looked for as well and count more, so that a model that writes nonsense does little harm.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from qwenchat.chat.message import Message, Role
from qwenchat.documents.levels.small_request import SmallReply, SmallRequests
from qwenchat.text.language import is_chinese
from qwenchat.text.words import fold, tokens

_MOST_KEYWORDS = 4
"""In each language."""
_LONGEST = 40
"""Characters of a keyword."""
_TOKENS = 40
"""That the keywords of one language, or a question, may take."""
_EARLIER = 4
"""Messages before the question that are read for what it refers to."""
_EARLIER_LENGTH = 400
"""Characters that are read of each."""
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?')
_BETWEEN = re.compile(r"[,，、;；\n]+")
_AROUND = " \t-*•·.。\"'`[]{}()0123456789"

_ENGLISH_STOPS = (
    "a about above after all also am an and any are as at be been but by can could did do does for from had has have "
    "he her his how i if in into is it its me more my no not of on or our please she should so some such tell than "
    "that the their them then there these they this those to up us was we were what when where which while who whom "
    "whose why will with would you your many much according document text passage"
)
_CHINESE_STOPS = (
    "什么 多少 哪个 哪里 哪些 哪种 怎么 怎样 如何 为什 几个 是谁 请问 一下 告诉 诉我 是什 有多 文档 文中 根据"
)
_STOPS = frozenset(f"{_ENGLISH_STOPS} {_CHINESE_STOPS}".split())
_WHOLE = (
    "summary summarise summarize summarises summarizes summarising overview outline gist abstract recap main idea "
    "ideas point points topic topics content contents document documents file files book text paper article whole "
    "entire brief briefly short give write make read explain describe sentence sentences words"
)
"""Words that ask for the whole, or say nothing of what is asked."""
_CHINESE_WHOLE = re.compile(
    "总结|概括|概述|摘要|大意|主要|内容|主题|梳理|归纳|介绍|讲|说|写|给|帮|请|我|你|用|关于|整个|全文|全书|文档|文件|文章|资料"
    "|书|[这那][份个本篇些]|本[文书]|[一几两三]句话|简[要单短]|一下|什么|哪些|[的是了吗呢在有和]"
)
_ASKS_WHOLE = re.compile(
    r"\b(?:summar\w+|overview|outline|gist|abstract|recap|tl;?dr|main (?:idea|point|topic)s?)\b"
    r"|\bwhat (?:is|are|was) .{0,60}\babout\b|总结|概括|概述|摘要|大意|主要内容|讲了什么|说了什么|讲的是什么|梳理|归纳",
    re.IGNORECASE,
)
_ASKS_ALL = re.compile(
    r"\b(?:all|each|every|everything|list|how many times|how often|compare|in total|altogether)\b"
    r"|所有|全部|每一|每个|每次|列出|列举|哪些|分别|一共|总共|比较|对比",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentQuery:
    """A question as a search needs it."""

    question: str
    """As it was asked; where it follows others, with what it means without them."""
    words: tuple[str, ...]
    """The words of the question."""
    keywords: tuple[str, ...] = ()
    """What the model would look for."""
    key: str = ""
    """Identifies what was asked; it does not depend on the model."""


async def understood(
    requests: SmallRequests, question: str, history: Sequence[Message], languages: Sequence[str]
) -> tuple[DocumentQuery, SmallReply]:
    """Return what to look for, and the reply that says so; `languages` of the documents are `en`, `zh` or both.

    Raises as the engine does.
    """
    earlier = _earlier(history)
    key = f"{earlier}\n{question}"
    properties: dict[str, object] = {"question": {"type": "string", "maxLength": 300}} if earlier else {}
    words = {"type": "string", "maxLength": _LONGEST}
    properties |= {
        f"keywords_{each}": {"type": "array", "items": words, "maxItems": _MOST_KEYWORDS} for each in languages
    }
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    reply = await requests.ask(
        "You prepare searches in documents. You answer with JSON alone.",
        _instruction(question, earlier, languages),
        max_tokens=_TOKENS * len(properties),
        schema=msgspec.json.encode(schema).decode(),
    )
    standalone, keywords = _read(reply.text)
    if earlier and standalone and fold(standalone) != fold(question):
        question = f"{question} ({standalone})"
    return DocumentQuery(question=question, words=search_words(question), keywords=keywords, key=key), reply


def search_words(text: str) -> tuple[str, ...]:
    """Return the words of a text that say something; all of its words where none does."""
    found = [token for token, _start, _end in tokens(fold(text))]
    several = [token for token in found if len(token) > 1 or token.isdigit()] or found
    return tuple(dict.fromkeys([token for token in several if token not in _STOPS] or several))


def asks_for_whole(question: str, names: Sequence[str] = ()) -> bool:
    """Say whether a question is about documents as a whole, such as one for a summary; `names` are theirs."""
    if not _ASKS_WHOLE.search(question):
        return False
    for name in names:
        question = question.replace(PurePath(name).stem, " ")
    said = {word for name in names for word in search_words(name)}
    left = re.findall(r"\w+", _CHINESE_WHOLE.sub(" ", fold(question)))
    return not {*left} - {*_WHOLE.split()} - _STOPS - said


def asks_for_all(question: str) -> bool:
    """Say whether a question asks for all of something, which single passages can't answer."""
    return _ASKS_ALL.search(question) is not None


def languages_of(samples: Sequence[str]) -> tuple[str, ...]:
    """Return the languages of texts, by samples of them; English where that is not known."""
    chinese = [is_chinese(sample) for sample in samples]
    return tuple(each for each, found in (("en", not all(chinese) or not chinese), ("zh", any(chinese))) if found)


def _earlier(history: Sequence[Message]) -> str:
    """Return the end of a chat as lines."""
    names = {Role.USER: "User", Role.ASSISTANT: "Assistant"}
    said = [(names[message.role], " ".join(message.text[:_EARLIER_LENGTH].split())) for message in history[-_EARLIER:]]
    return "\n".join(f"{name}: {text}" for name, text in said if text)


def _instruction(question: str, earlier: str, languages: Sequence[str]) -> str:
    names = {"en": "English", "zh": "Chinese (中文)"}
    lines = [f"The chat so far:\n{earlier}\n"] if earlier else []
    lines.append(f"Question: {question}\n")
    if earlier:
        lines.append('"question": the question, written so that it is understood without the chat.')
    lines += [
        f'"keywords_{each}": up to {_MOST_KEYWORDS} words in {names[each]} that a text with the answer would contain.'
        for each in languages
    ]
    return "\n".join(lines)


def _read(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the question and the keywords in what a model wrote: JSON, JSON that was cut off, or just words."""
    question, keywords, key = "", list[str](), ""
    for found in _STRING.finditer(text):
        try:
            value = msgspec.json.decode(found[1], type=str)
        except msgspec.DecodeError:
            continue
        if found[2]:
            key = value
        elif key == "question":
            question = " ".join(value.split())
        else:
            keywords.append(value)
    if not (keywords or key):
        keywords = _BETWEEN.split(text)
    clean = (keyword.strip(_AROUND) if not keyword.strip().isdigit() else keyword.strip() for keyword in keywords)
    return question, tuple(dict.fromkeys(each for each in clean if 0 < len(each) <= _LONGEST))[: 2 * _MOST_KEYWORDS]
