"""OpenAI's chat `messages`, as in requests and fine-tuning files, one chat per line or in an array.

Tool calls and their results become parts of the answer, and so does `reasoning_content`, which DeepSeek's API and vLLM
write beside `content`. The blocks of Anthropic's messages are read, too, and messages of the role `tool_call`, which
ms-swift writes.
"""

from typing import Any

from qwenchat.chat.message import Part, Reasoning
from qwenchat.sessions.conversion import ImportedChat, LinearTurn, linear
from qwenchat.sessions.foreign import (
    Speaker,
    id_in,
    list_in,
    object_in,
    parts_of,
    speaker_of,
    text_in,
    tool_call,
    tool_result,
    written_calls,
)
from qwenchat.sessions.importers import ImportFormat

_OTHER_FORMATS = {"history", "format", "mapping", "conv", "conversations", "chat_messages", "chat"}
_OTHER_MESSAGES = {"messageId", "isCreatedByUser", "parentMessageId"}


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has `messages`, but none of the keys of other formats that have them, too."""
    if not isinstance(record.get("messages"), list) or _OTHER_FORMATS & record.keys():
        return False
    return not any(_OTHER_MESSAGES & object_in(message).keys() for message in record["messages"])


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive."""
    turns = [_turn(message) for message in list_in(record.get("messages"))]
    return linear("openai", turns, modified, key=id_in(record.get("id")), title=text_in(record.get("title")))


def _turn(value: object) -> LinearTurn:
    message = object_in(value)
    name = text_in(message.get("role"))
    speaker = speaker_of(name)
    return LinearTurn(value, speaker, _parts(message, speaker) if message else None, name)


def _parts(message: dict[str, Any], speaker: Speaker) -> tuple[Part, ...] | None:
    content = message.get("content")
    if speaker is Speaker.CALL:
        return written_calls(content)
    if speaker is Speaker.RESULT:
        return (tool_result(message.get("tool_call_id"), message.get("name"), content),)
    parts = parts_of(content, speaker)
    if speaker is not Speaker.ASSISTANT or parts is None:
        return parts
    reasoning = text_in(message.get("reasoning_content"), message.get("reasoning"))
    made = [*list_in(message.get("tool_calls")), {"function": message.get("function_call")}]
    functions = [(object_in(each), object_in(object_in(each).get("function")) or object_in(each)) for each in made]
    calls = [
        tool_call(each.get("id"), function.get("name"), function.get("arguments"))
        for each, function in functions
        if text_in(function.get("name"))
    ]
    return (*([Reasoning(reasoning)] if reasoning else ()), *parts, *calls)


FORMAT = ImportFormat("OpenAI messages", knows, read)
