"""Chats as other programs export them, made by hand: small, with each part that the importers know."""

import json
from io import BytesIO
from typing import Any

from qwenchat.sessions import importers, records

JSON = dict[str, Any]
WRITTEN = 1_700_000_000_000
"""When the file that is read was written, in milliseconds."""


def read(*documents: object) -> importers.ImportedFile:
    """Import the documents as one file."""
    return importers.read(records.records_in(BytesIO(json.dumps(documents).encode()), WRITTEN))


def chatgpt_node(
    name: str, parent: str | None, role: str, *parts: object, kind: str = "text", **message: object
) -> JSON:
    content = {"content_type": kind, "parts": list(parts)}
    body = {"id": name, "author": {"role": role}, "content": content, "metadata": {}, "recipient": "all"} | message
    return {"id": name, "parent": parent, "children": [], "message": body}


def chatgpt(*nodes: JSON, **fields: object) -> JSON:
    root = {"id": "root", "message": None, "parent": None, "children": [nodes[0]["id"]]}
    return {
        "title": "Python help",
        "create_time": 1_697_000_000.25,
        "update_time": 1_697_000_900.0,
        "mapping": {node["id"]: node for node in (root, *nodes)},
        "current_node": nodes[-1]["id"],
        "conversation_id": "conv-1",
    } | fields


CHATGPT = chatgpt(
    chatgpt_node("sys", "root", "system", "", metadata={"is_visually_hidden_from_conversation": True}),
    chatgpt_node("u1", "sys", "user", "How?", create_time=1_697_000_001.5),
    chatgpt_node("a1", "u1", "assistant", "Like so.", create_time=1_697_000_002, metadata={"model_slug": "gpt-4"}),
    chatgpt_node("u2", "a1", "user", "And then?", create_time=1_697_000_003),
    chatgpt_node("a2", "u1", "assistant", "Or so.", create_time=1_697_000_004, metadata={"model_slug": "gpt-4o"}),
    chatgpt_node("u3", "a2", "user", {"content_type": "image_asset_pointer", "asset_pointer": "x"}, "What is it?",
                 kind="multimodal_text", create_time=1_697_000_005),
    chatgpt_node("call", "u3", "assistant", "look()", kind="code", recipient="python"),
    chatgpt_node("tool", "call", "tool", "a cat"),
    chatgpt_node("think", "tool", "assistant", "hm", kind="reasoning_recap"),
    chatgpt_node("a3", "think", "assistant", "A cat.", create_time=1_697_000_009),
)  # fmt: skip


def openwebui_message(name: str, parent: str | None, role: str, content: object, time: object, **more: object) -> JSON:
    return {
        "id": name,
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": time,
    } | more


def openwebui(**chat: object) -> JSON:
    messages = [
        openwebui_message("u1", None, "user", "你好", 1_75_000_000, models=["qwen2:7b"]),
        openwebui_message("a1", "u1", "assistant", "你好！", 1_75_000_001, model="qwen2:7b", done=True),
        openwebui_message("a2", "u1", "assistant", "您好！", 1_75_000_002, model="qwen2:72b"),
        openwebui_message(
            "u2", "a1", "user", [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {}}], None
        ),
        openwebui_message("a3", "u2", "assistant", "", 1_75_000_005, error={"content": "no"}),
    ]
    return {
        "id": "chat-1",
        "user_id": "someone",
        "title": "Greeting\x1b[31m",
        "chat": {
            "title": "inner",
            "models": ["qwen2:7b"],
            "params": {"system": "Be kind."},
            "history": {"messages": {each["id"]: each for each in messages}, "currentId": "a3"},
            "messages": messages[:2],
        }
        | chat,
        "created_at": 1_75_000_000,
        "updated_at": 1_75_000_100,
        "archived": False,
        "pinned": True,
        "meta": {"tags": ["greeting", "中文"]},
    }


_CLAUDE_ROOT = "00000000-0000-4000-8000-000000000000"


def claude_message(name: str, sender: str, *blocks: JSON, **more: object) -> JSON:
    text = "\n\n".join(block["text"] for block in blocks if "text" in block)
    message = {"uuid": name, "sender": sender, "text": text, "content": list(blocks), "attachments": [], "files": []}
    return message | {"created_at": "2025-03-01T10:00:00.000000Z"} | more


CLAUDE: JSON = {
    "uuid": "claude-1",
    "name": "A poem",
    "created_at": "2025-03-01T09:59:00.5Z",
    "updated_at": "2025-03-01T10:05:00Z",
    "account": {"uuid": "someone"},
    "chat_messages": [
        claude_message(
            "c1",
            "human",
            {"type": "text", "text": "Improve my notes."},
            parent_message_uuid=_CLAUDE_ROOT,
            attachments=[{"file_name": "notes.txt", "file_type": "txt", "extracted_content": "Roses are red."}],
            files=[{"file_name": "photo.png", "file_kind": "image"}],
        ),
        claude_message(
            "c2",
            "assistant",
            {"type": "thinking", "thinking": "They want a poem."},
            {"type": "text", "text": "Let me check."},
            {"type": "tool_use", "id": "tu1", "name": "web_search", "input": {"query": "roses"}},
            {"type": "tool_result", "tool_use_id": "tu1", "name": "web_search",
             "content": [{"type": "text", "text": "Roses are often red."}]},
            {"type": "tool_use", "name": "artifacts", "input": {"title": "Poem", "content": "Red!"}},
            {"type": "text", "text": "Done."},
            parent_message_uuid="c1",
            created_at="2025-03-01T10:00:05Z",
        ),
        claude_message("c3", "assistant", {"type": "text", "text": "Or this."}, parent_message_uuid="c1"),
        claude_message("c4", "human", {"type": "text", "text": "Thanks"}, parent_message_uuid="c2"),
    ],
    "current_leaf_message_uuid": "c4",
}  # fmt: skip


def deepseek_node(name: str, parent: str | None, children: list[str], *fragments: JSON, **message: object) -> JSON:
    body = {"files": [], "model": "deepseek-reasoner", "inserted_at": "2025-02-05T14:22:46.345000+08:00"}
    return {
        "id": name,
        "parent": parent,
        "children": children,
        "message": body | {"fragments": list(fragments)} | message,
    }


DEEPSEEK: JSON = {
    "id": "ds-1",
    "title": "天空",
    "inserted_at": "2025-02-05T14:22:40.000000+08:00",
    "updated_at": "2025-02-05T14:23:00.000000+08:00",
    "mapping": {
        "root": {"id": "root", "parent": None, "children": ["1"], "message": None},
        "1": deepseek_node("1", "root", ["2", "3"], {"type": "REQUEST", "content": "天为什么是蓝的？"},
                           files=[{"file_name": "sky.pdf"}]),
        "2": deepseek_node("2", "1", ["4"], {"type": "SEARCH", "results": [{"url": "https://a.example/sky",
                           "title": "Sky", "cite_index": 1}]}, {"type": "THINK", "content": "散射。"},
                           {"type": "RESPONSE", "content": "瑞利散射[citation:1]。[citation:9]"}),
        "3": deepseek_node("3", "1", [], {"type": "RESPONSE", "content": "因为散射。"}),
        "4": deepseek_node("4", "2", [], {"type": "REQUEST", "content": "谢谢"}),
    },
}  # fmt: skip


def llama_message(name: object, parent: object, role: str, content: object, **more: object) -> JSON:
    return {
        "convId": "lc-1",
        "id": name,
        "parent": parent,
        "role": role,
        "content": content,
        "type": "text",
        "timestamp": 1_740_000_000_000,
        "children": [],
    } | more


LLAMA_SERVER: JSON = {
    "conv": {"id": "lc-1", "name": "Weather", "lastModified": 1_740_000_009_000, "currNode": 5},
    "messages": [
        llama_message(0, -1, "system", "", type="root", children=[1]),
        llama_message(1, 0, "system", "Be brief."),
        llama_message(2, 1, "user", "Rain?", extra=[{"type": "textFile", "name": "a.txt", "content": "wet"},
                                                    {"type": "imageFile", "name": "b.png", "base64Url": "data:"}]),
        llama_message(3, 2, "assistant", "", thinking="Ask.", model="qwen2.gguf", timestamp=1_740_000_001_000,
                      toolCalls='[{"id": "t1", "function": {"name": "weather", "arguments": "{}"}}]'),
        llama_message(4, 3, "tool", "dry", toolCallId="t1", timestamp=1_740_000_002_000),
        llama_message(5, 4, "assistant", "No rain.", model="qwen2.gguf", timestamp=1_740_000_003_000),
        llama_message(6, 2, "assistant", "Yes.", timestamp=1_740_000_004_000),
    ],
}  # fmt: skip


def libre_message(name: str, parent: str, by_user: bool, text: str, **more: object) -> JSON:
    return {
        "messageId": name,
        "parentMessageId": parent,
        "conversationId": "lib-1",
        "isCreatedByUser": by_user,
        "sender": "User" if by_user else "GPT-4",
        "text": text,
    } | more


_LIBRE_ROOT = "00000000-0000-0000-0000-000000000000"
_LIBRE_PARTS = [
    {"type": "think", "think": "Long, then."},
    {"type": "tool_call", "tool_call": {"id": "x1", "name": "dice", "args": '{"n":6}', "output": "4"}},
    {"type": "text", "text": {"value": "A longer tale."}},
]
LIBRECHAT: JSON = {
    "conversationId": "lib-1",
    "title": "Tales",
    "endpoint": "openAI",
    "branches": True,
    "recursive": False,
    "options": {"model": "gpt-4o", "promptPrefix": "You tell tales."},
    "messages": [
        libre_message("l1", _LIBRE_ROOT, True, "Tell one.", createdAt="2024-05-28T18:08:55.014Z"),
        libre_message("l2", "l1", False, "Once upon a time.", model="gpt-4o", createdAt="2024-05-28T18:08:56Z"),
        libre_message("l3", "l1", False, "", content=_LIBRE_PARTS, createdAt="2024-05-28T18:09:56Z"),
        libre_message("l4", _LIBRE_ROOT, True, "Tell a short one.", createdAt="2024-05-28T18:10:55Z"),
    ],
}
LIBRECHAT_RECURSIVE: JSON = LIBRECHAT | {
    "conversationId": "lib-2",
    "recursive": True,
    "messages": [LIBRECHAT["messages"][0] | {"children": [
        LIBRECHAT["messages"][1] | {"children": []}, LIBRECHAT["messages"][2] | {"children": []}]},
        LIBRECHAT["messages"][3] | {"children": []}],
}  # fmt: skip

OPENAI: JSON = {
    "messages": [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": [{"type": "text", "text": "Sum?"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "k1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "k1", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ],
    "title": "Sums",
}  # fmt: skip
SHAREGPT: JSON = {
    "id": "sg-1",
    "system": "Be exact.",
    "conversations": [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {}}'},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "A"},
    ],
}
EVERY_FORMAT: tuple[JSON, ...] = (
    CHATGPT,
    CLAUDE,
    DEEPSEEK,
    LIBRECHAT,
    LIBRECHAT_RECURSIVE,
    LLAMA_SERVER,
    OPENAI,
    openwebui(),
    SHAREGPT,
)
