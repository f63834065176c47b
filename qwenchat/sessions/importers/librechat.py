"""LibreChat's export of one chat: `messages` that name their parents or, in the recursive form, contain their children.

Reasoning and tool calls become parts of the answer.
"""

from typing import Any

from qwenchat.chat.message import Text
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of
from qwenchat.sessions.foreign import (
    Speaker,
    file_trace,
    id_in,
    lines,
    list_in,
    object_in,
    parent_in,
    parts_of,
    speaker_of,
    text_in,
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat

_OWN_KEYS = ("messageId", "isCreatedByUser", "parentMessageId")


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has messages in LibreChat's words."""
    return any(key in object_in(message) for message in _messages(record) for key in _OWN_KEYS)


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive with all branches that were exported."""
    options = object_in(record.get("options"))
    nodes: dict[str, ForeignNode] = {}
    left: list[tuple[Any, str | None]] = [(message, None) for message in reversed(_messages(record))]
    while left:
        value, above = left.pop()
        message = object_in(value)
        name = id_in(message.get("messageId"))
        name = name if name and name not in nodes else f"-{len(nodes)}"
        nodes[name] = _node(message, above, text_in(options.get("model")))
        left += [(child, name) for child in reversed(list_in(message.get("children")))]
    return archive_of(
        ForeignChat(
            "librechat",
            id_in(record.get("conversationId")),
            nodes,
            modified,
            title=text_in(record.get("title"), options.get("title")),
            system=text_in(options.get("promptPrefix"), options.get("system"), options.get("instructions")),
        )
    )


def _messages(record: dict[str, Any]) -> list[Any]:
    return list_in(record.get("messagesTree")) or list_in(record.get("messages"))


def _node(message: dict[str, Any], above: str | None, model: str) -> ForeignNode:
    name, by_user = text_in(message.get("sender"), message.get("role")), message.get("isCreatedByUser")
    speaker = speaker_of(name)
    if isinstance(by_user, bool):
        speaker = Speaker.USER if by_user else Speaker.ASSISTANT
    parts = parts_of(message.get("content") or message.get("text"), speaker) if message else None
    uploads = [*list_in(message.get("files")), *list_in(message.get("attachments"))]
    return ForeignNode(
        above or parent_in(message, "parentMessageId"),
        speaker,
        None if parts is None else lines((*(Text(file_trace(each)) for each in uploads if each), *parts)),
        created=unix_ms(message.get("createdAt")),
        model=text_in(message.get("model"), model),
        name=name,
    )


FORMAT = ImportFormat("LibreChat", knows, read)
