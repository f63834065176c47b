"""DeepSeek's export: `conversations.json`, alone or in its zip, with every branch.

A message consists of fragments: a question, a thought, an answer or a search. Older exports have the content and the
reasoning instead, without a speaker: questions and answers alternate.
"""

import re
from collections.abc import Iterable
from typing import Any

from qwenchat.chat.message import Part, Reasoning, Text, ToolCall, ToolResult
from qwenchat.sessions.conversion import ForeignChat, ForeignNode, ImportedChat, archive_of, node_without_message
from qwenchat.sessions.foreign import (
    Speaker,
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
    unix_ms,
)
from qwenchat.sessions.importers import ImportFormat

_CITATION = re.compile(r"\[citation:(\d{1,4})\]")


def knows(record: dict[str, Any]) -> bool:
    """Return whether a record has a `mapping` with DeepSeek's names for times or messages."""
    mapping = record.get("mapping")
    if not isinstance(mapping, dict):
        return False
    messages = (object_in(object_in(node).get("message")) for node in mapping.values())
    return "inserted_at" in record or any("fragments" in each or "inserted_at" in each for each in messages)


def read(record: dict[str, Any], modified: int) -> ImportedChat:
    """Return the archive with all branches."""
    nodes: dict[str, ForeignNode] = {}
    for name, node in object_in(record.get("mapping")).items():
        above = nodes.get(id_in(object_in(node).get("parent")))
        nodes[name] = _node(node, above.speaker if above else Speaker.UNKNOWN)
    return archive_of(
        ForeignChat(
            "deepseek",
            id_in(record.get("id")),
            nodes,
            modified,
            title=text_in(record.get("title")),
            created=unix_ms(record.get("inserted_at")),
            updated=unix_ms(record.get("updated_at")),
            pinned=record.get("pinned") is True,
        )
    )


def _node(value: object, above: Speaker) -> ForeignNode:
    if (empty := node_without_message(value)) is not None:
        return empty
    node = object_in(value)
    message = object_in(node.get("message"))
    fragments = _fragments(message)
    speaker = _speaker(message, fragments, above)
    results = [each for fragment in fragments for each in map(object_in, list_in(fragment.get("results")))]
    links = _links([*map(object_in, list_in(message.get("search_results"))), *results])
    parts = [_part(fragment, speaker, links) for fragment in fragments]
    files = [Text(file_trace(file)) for file in list_in(message.get("files"))]
    return ForeignNode(
        parent_in(node, "parent"),
        speaker,
        None if None in parts or not fragments else lines((*files, *(part for each in parts for part in each or ()))),
        created=unix_ms(message.get("inserted_at")),
        model=text_in(message.get("model")),
        children=list_in(node.get("children")),
    )


def _fragments(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fragments of a message; of an older one, its reasoning and its content as fragments."""
    if isinstance(message.get("fragments"), list):
        return [object_in(fragment) for fragment in message["fragments"]]
    old = {"THINK": message.get("reasoning_content"), "": message.get("content")}
    return [{"type": kind, "content": content} for kind, content in old.items() if content is not None]


def _speaker(message: dict[str, Any], fragments: list[dict[str, Any]], above: Speaker) -> Speaker:
    kinds = [fragment.get("type") for fragment in fragments]
    if "REQUEST" in kinds:
        return Speaker.USER
    if any(kind in ("THINK", "RESPONSE", "SEARCH") for kind in kinds):
        return Speaker.ASSISTANT
    named = speaker_of(message.get("role"))
    if named is not Speaker.UNKNOWN:
        return named
    return Speaker.ASSISTANT if above is Speaker.USER else Speaker.USER


def _part(fragment: dict[str, Any], speaker: Speaker, links: dict[str, str]) -> tuple[Part, ...] | None:
    """Return the parts of a fragment; None if it can't be read."""
    if "results" in fragment:
        sources = (link(each.get("title"), each.get("url")) for each in map(object_in, list_in(fragment["results"])))
        text = "\n".join(filter(None, sources))
        return (ToolCall("", "search", "{}"), ToolResult("", "search", text)) if text else ()
    content = fragment.get("content")
    if fragment.get("type") == "THINK":
        return (Reasoning(content),) if isinstance(content, str) else None
    parts = parts_of(content, speaker)
    if parts is None or speaker is Speaker.USER:
        return parts
    return tuple(
        Text(_CITATION.sub(lambda mark: links.get(mark[1], ""), part.text)) if isinstance(part, Text) else part
        for part in parts
    )


def _links(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return the links of search results by their numbers."""
    numbered = ((id_in(each.get("cite_index")) or str(number), each) for number, each in enumerate(results, 1))
    return {number: link(each.get("title"), each.get("url")) for number, each in numbered}


FORMAT = ImportFormat("DeepSeek", knows, read)
