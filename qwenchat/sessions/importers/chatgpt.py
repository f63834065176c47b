"""ChatGPT's export: `conversations.json`, alone or in its zip, with every branch.

Tool calls, their results and the model's thoughts become parts of the answer, a canvas document becomes text, and
custom instructions become the system prompt. Marks of citations become links where the export has the address and
disappear elsewhere. Pictures, recordings and uploads, which are not in the file, leave a line in brackets.
"""

import re
from typing import Any

import msgspec

from qwenchat.chat.message import Part, Reasoning, Text, ToolResult, text_parts
from qwenchat.i18n import _
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of, node_without_message
from qwenchat.sessions.foreign import (
    Speaker,
    document,
    file_trace,
    id_in,
    lines,
    link,
    list_in,
    object_in,
    parent_in,
    parts_of,
    speaker_of,
    text_in,
    tool_call,
    trace,
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat
from qwenchat.sessions.importers.deepseek import knows as is_deepseek
from qwenchat.text.safe import joined

_UNSEEN = ("model_editable_context", "reasoning_recap")
"""Kinds of content that say nothing of their own."""
_INSTRUCTIONS = "user_editable_context"
_MARK = re.compile(
    r"[ \t]{0,2}(\ue200[^\ue200\ue201]*\ue201|【[^【】\n]{0,200}†[^【】\n]{0,200}】|【turn\d[^【】\n]{0,200}】"
    r"|:contentReference\[oaicite:\d+\]\{index=\d+\})"
)
_REST_OF_MARK = re.compile("[\ue200-\ue2ff]")
_SIGN = re.compile("[\ue200-\ue2ff【]|:contentReference")


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has a `mapping` that is not DeepSeek's."""
    return isinstance(record.get("mapping"), dict) and not is_deepseek(record)


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive with all branches."""
    mapping = object_in(record.get("mapping"))
    model = text_in(record.get("default_model_slug"))
    return archive_of(
        ForeignChat(
            "chatgpt",
            id_in(record.get("conversation_id"), record.get("id")),
            {name: _node(node, model) for name, node in mapping.items()},
            modified,
            title=text_in(record.get("title")),
            created=unix_ms(record.get("create_time")),
            updated=unix_ms(record.get("update_time")),
            current=text_in(record.get("current_node")),
            pinned=record.get("is_starred") is True,
        )
    )


def _node(value: object, model: str) -> ForeignNode:
    if (empty := node_without_message(value)) is not None:
        return empty
    node = object_in(value)
    message = object_in(node.get("message"))
    author, metadata = object_in(message.get("author")), object_in(message.get("metadata"))
    name = text_in(author.get("role"))
    speaker = speaker_of(name)
    if object_in(message.get("content")).get("content_type") == _INSTRUCTIONS:
        speaker = Speaker.SYSTEM
    return ForeignNode(
        parent_in(node, "parent"),
        speaker,
        _parts(message, speaker),
        created=unix_ms(message.get("create_time")),
        model=text_in(metadata.get("model_slug"), metadata.get("default_model_slug"), model),
        children=list_in(node.get("children")),
        name=name,
    )


def _parts(message: dict[str, Any], speaker: Speaker) -> tuple[Part, ...] | None:
    content, metadata = message.get("content"), object_in(message.get("metadata"))
    if content is not None and not isinstance(content, dict):
        return None
    kind = _kind(content)
    hidden = kind in _UNSEEN or (metadata.get("is_visually_hidden_from_conversation") and kind != _INSTRUCTIONS)
    if content is None or hidden:
        return ()
    recipient = text_in(message.get("recipient"))
    if kind == _INSTRUCTIONS:
        parts: tuple[Part, ...] | None = text_parts(_instructions(content, metadata))
    elif kind == "thoughts":
        parts = _thoughts(content)
    elif speaker is Speaker.RESULT:
        parts = _result(content, text_in(object_in(message.get("author")).get("name")))
    elif recipient not in ("", "all"):
        parts = _call(_plain(content), recipient)
    else:
        parts = _said(content, metadata, speaker)
    return parts


def _thoughts(content: dict[str, Any]) -> tuple[Part, ...]:
    thoughts = (object_in(thought) for thought in list_in(content.get("thoughts")))
    text = joined(*(text_in(each.get(key)) for each in thoughts for key in ("summary", "content")))
    return (Reasoning(text),) if text else ()


def _said(content: dict[str, Any], metadata: dict[str, Any], speaker: Speaker) -> tuple[Part, ...] | None:
    """Return the parts of what was said to the user or by the user; uploads come first."""
    uploads = list(filter(None, map(file_trace, list_in(metadata.get("attachments")))))
    parts = content.get("parts")
    if not parts:
        parts = text_in(*map(content.get, ("text", "result", "content")))
    if isinstance(parts, list):
        parts = [part for part in parts if not (uploads and _kind(part) == "image_asset_pointer")]
        spoken = any(_kind(part) == "audio_transcription" for part in parts)
        parts = [part for part in parts if not (spoken and "asset_pointer" in _kind(part))]
    found = parts_of(parts, speaker)
    if found is None:
        return None
    if speaker is Speaker.ASSISTANT:
        found = tuple(Text(_without_marks(part.text, metadata)) if isinstance(part, Text) else part for part in found)
    return lines((*map(Text, uploads), *found))


def _result(content: dict[str, Any], tool: str) -> tuple[Part, ...]:
    """Return the result of a tool, or what stands for the picture that it made."""
    pictures = [part for part in list_in(content.get("parts")) if "image_asset_pointer" in _kind(part)]
    if pictures:
        made = [object_in(object_in(object_in(part).get("metadata")).get("dalle")).get("prompt") for part in pictures]
        return lines(Text(trace("image", prompt)) for prompt in made)
    text = _plain(content)
    return (ToolResult("", tool, text),) if text else ()


def _call(text: str, tool: str) -> tuple[Part, ...]:
    """Return a call of a tool; a canvas document that it writes becomes text."""
    arguments = object_in(_json(text))
    if tool == "canmore.create_textdoc" and isinstance(arguments.get("content"), str):
        return text_parts(document(arguments.get("name"), arguments["content"]))
    if tool == "canmore.update_textdoc":
        updates = [object_in(update) for update in list_in(arguments.get("updates"))]
        changes = [text_in(update.get("replacement")) for update in updates]
        return lines(Text(document(_("changed"), change)) for change in changes if change)
    return (tool_call("", tool, arguments or {"input": text}),) if text else ()


def _instructions(content: dict[str, Any], metadata: dict[str, Any]) -> str:
    given = object_in(metadata.get("user_context_message_data"))
    return joined(
        text_in(given.get("about_user_message"), content.get("user_profile")),
        text_in(given.get("about_model_message"), content.get("user_instructions")),
    )


def _plain(content: dict[str, Any]) -> str:
    """Return all text of a content."""
    parts = parts_of(content.get("parts"), Speaker.RESULT) or ()
    said = "\n".join(part.text for part in parts if isinstance(part, Text))
    return said or text_in(*map(content.get, ("text", "result", "summary", "content")))


def _kind(part: object) -> str:
    return text_in(object_in(part).get("content_type"))


def _without_marks(text: str, metadata: dict[str, Any]) -> str:
    """Return a text whose marks are links, or gone if they lead nowhere."""
    if not _SIGN.search(text):
        return text
    links = _links(metadata)

    def replaced(found: re.Match[str]) -> str:
        mark = found[1]
        words = links.get(mark) or links.get(mark.partition("†")[0] + "†") or _own_words(mark)
        return f" {words}" if words else ""

    return _REST_OF_MARK.sub("", _MARK.sub(replaced, text))


def _links(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the links for marks, or for their beginnings up to `†`."""
    links: dict[str, str] = {}
    for reference in map(object_in, list_in(metadata.get("content_references"))):
        items = [reference, *map(object_in, list_in(reference.get("items")))]
        if mark := text_in(reference.get("matched_text")).strip():
            links[mark] = ", ".join(dict.fromkeys(filter(None, map(_link, items))))
    for citation in map(object_in, list_in(metadata.get("citations"))):
        source = object_in(citation.get("metadata"))
        if number := id_in(object_in(source.get("extra")).get("cited_message_idx")):
            links[f"【{number}†"] = _link(source)
    return links


def _link(source: dict[str, Any]) -> str:
    return link(text_in(source.get("title"), source.get("attribution"), source.get("name")), source.get("url"))


def _own_words(mark: str) -> str:
    """Return what a mark itself says: a link with its title, or the name of a thing."""
    kind, *values = mark.strip("\ue200\ue201").split("\ue202")
    if kind == "url" and len(values) > 1:
        return link(values[0], values[1])
    if kind == "entity" and values:
        return text_in(*list_in(_json(values[0]))[1:2])
    return ""


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


FORMAT = ImportFormat("ChatGPT", knows, read)
