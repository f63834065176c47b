"""Other programs' chats, each format in its own words."""

import copy
import json
from io import BytesIO
from typing import Any

import pytest

from qwenchat.chat.message import Message, Part, Reasoning, Text, ToolCall, ToolResult
from qwenchat.chat.tree import Tree
from qwenchat.sessions import importers, records
from qwenchat.sessions.archive import Archive
from qwenchat.sessions.foreign import Speaker, speaker_of, unix_ms
from tests.fakes.archives import MemoryArchives
from tests.fakes.foreign import (
    CHATGPT,
    CLAUDE,
    DEEPSEEK,
    EVERY_FORMAT,
    JSON,
    LIBRECHAT,
    LIBRECHAT_RECURSIVE,
    LLAMA_SERVER,
    OPENAI,
    SHAREGPT,
    WRITTEN,
    chatgpt,
    chatgpt_node,
    claude_message,
    read,
)


def only(document: JSON) -> Archive:
    reading = read(document)
    assert (reading.problems, dict(reading.left_out)) == ((), {})
    (archive,) = reading.archives
    return archive


def open_branch(archive: Archive) -> list[Message]:
    return Tree(archive.messages).branch(archive.session.leaf)


def texts(archive: Archive) -> list[str]:
    return [message.text for message in open_branch(archive)]


def answer_of(*nodes: JSON, **fields: object) -> tuple[Part, ...]:
    """The parts of the answer to a question in a ChatGPT chat."""
    return open_branch(only(chatgpt(chatgpt_node("u", "root", "user", "Q"), *nodes, **fields)))[1].parts


def test_claude() -> None:
    archive = only(CLAUDE)
    asked, answer, thanks = open_branch(archive)
    assert (archive.session.title, archive.session.created) == ("A poem", 1_740_823_140_500)
    assert asked.text == "[picture: photo.png]\nImprove my notes."
    assert [(file.name, file.text) for file in asked.attachments] == [("notes.txt", "Roses are red.")]
    assert answer.parts == (
        Reasoning("They want a poem."),
        Text("Let me check."),
        ToolCall("tu1", "web_search", '{"query":"roses"}'),
        ToolResult("tu1", "web_search", "Roses are often red."),
        Text("[document: Poem]\n```\nRed!\n```\nDone."),
    )
    assert thanks.text == "Thanks"
    assert {message.text for message in Tree(archive.messages).variants(answer.id)} == {answer.text, "Or this."}


def test_claude_without_links_or_blocks() -> None:
    old = [{"sender": "human", "text": "Q"}, {"sender": "assistant", "text": "A"}, {"sender": "human", "text": "R"}]
    assert texts(only({"uuid": "c", "name": "", "chat_messages": old})) == ["Q", "A", "R"]


def test_deepseek() -> None:
    archive = only(DEEPSEEK)
    asked, answer, thanks = open_branch(archive)
    assert (asked.text, thanks.text) == ("[file: sky.pdf]\n天为什么是蓝的？", "谢谢")
    assert answer.parts == (
        ToolCall("call-1", "search", "{}"),
        ToolResult("call-1", "search", "[Sky](https://a.example/sky)"),
        Reasoning("散射。"),
        Text("瑞利散射[Sky](https://a.example/sky)。"),
    )
    assert answer.model == "deepseek-reasoner"
    assert answer.created == 1_738_736_566_345
    assert {message.text for message in Tree(archive.messages).variants(answer.id)} == {answer.text, "因为散射。"}


def test_deepseek_of_old_has_no_speakers() -> None:
    old = {"inserted_at": "2025-01-01T00:00:00+08:00", "model": "deepseek-chat"}
    mapping = {
        "root": {"parent": None, "children": ["1"], "message": None},
        "1": {"parent": "root", "children": ["2"], "message": old | {"content": "Q", "reasoning_content": None}},
        "2": {"parent": "1", "children": ["3"], "message": old | {"content": "A", "reasoning_content": "Hm."}},
        "3": {"parent": "2", "children": [], "message": old | {"content": "R"}},
    }
    asked, answer, again = open_branch(only({"id": "old", "mapping": mapping}))
    assert (asked.text, again.text, answer.parts) == ("Q", "R", (Reasoning("Hm."), Text("A")))


def test_llama_server() -> None:
    archive = only(LLAMA_SERVER)
    asked, answer = open_branch(archive)
    assert (archive.session.title, archive.session.system) == ("Weather", "Be brief.")
    assert asked.text == "[picture: b.png]\nRain?"
    assert [(file.name, file.text) for file in asked.attachments] == [("a.txt", "wet")]
    assert answer.parts == (
        Reasoning("Ask."),
        ToolCall("t1", "weather", "{}"),
        ToolResult("t1", "weather", "dry"),
        Text("No rain."),
    )
    assert answer.model == "qwen2.gguf"
    assert [message.text for message in Tree(archive.messages).variants(answer.id)] == ["No rain.", "Yes."]


@pytest.mark.parametrize("document", [LIBRECHAT, LIBRECHAT_RECURSIVE])
def test_librechat(document: JSON) -> None:
    archive = only(document)
    tree = Tree(archive.messages)
    assert (archive.session.title, archive.session.system) == ("Tales", "You tell tales.")
    assert [message.text for message in tree.children(None)] == ["Tell one.", "Tell a short one."]
    short, long = tree.children(tree.children(None)[0].id)
    assert (short.text, short.model, short.created) == ("Once upon a time.", "gpt-4o", 1_716_919_736_000)
    assert long.parts == (
        Reasoning("Long, then."),
        ToolCall("x1", "dice", '{"n":6}'),
        ToolResult("x1", "dice", "4"),
        Text("A longer tale."),
    )


def test_open_webui_tool_calls_that_are_folded_in_an_answer() -> None:
    folded = (
        '<details type="tool_calls" done="true" id="c1" name="now" arguments="&quot;{\\&quot;zone\\&quot;: 1}&quot;" '
        'result="&quot;noon&quot;">\n<summary>Done</summary>\n</details>\nIt is noon.'
    )
    plain = {"role": "user", "content": "Q"}, {"role": "assistant", "content": folded}
    assert open_branch(only({"chat": {"messages": plain}}))[1].parts == (
        ToolCall("c1", "now", '{"zone": 1}'),
        ToolResult("c1", "now", "noon"),
        Text("It is noon."),
    )


def test_chatgpt_chats_without_ids_stay_apart() -> None:
    def unnamed(text: str) -> JSON:
        mapping = {
            "client-created-root": {"message": None, "parent": None, "children": ["1"]},
            "1": chatgpt_node("1", "client-created-root", "user", text),
        }
        return {"title": "New chat", "mapping": mapping}

    reading = read(unnamed("One"), unnamed("Two"))
    assert [archive.messages[0].text for archive in reading.archives] == ["One", "Two"]
    assert len({archive.session.id for archive in reading.archives}) == 2
    store = MemoryArchives(*reading.archives)
    grown = unnamed("One")
    grown["mapping"]["2"] = chatgpt_node("2", "1", "assistant", "Yes")
    assert store.add_archives(read(grown, unnamed("Two")).archives) == 1
    assert sorted(len(archive.messages) for archive in store.archives.values()) == [1, 2]


@pytest.mark.parametrize("missing", [["parent"], ["children"], ["parent", "children"]])
def test_chatgpt_without_links_loses_no_message(missing: list[str]) -> None:
    words = ["One?", "1.", "Two?", "2."]
    names = ["root", "n1", "n2", "n3", "n4"]
    roles = ["user", "assistant"] * 2
    made = chatgpt(
        *(
            chatgpt_node(name, above, role, text, create_time=1_697_000_000 + number)
            for number, (name, above, role, text) in enumerate(zip(names[1:], names, roles, words, strict=False))
        )
    )
    for name, child in zip(names, [*names[1:], None], strict=True):
        made["mapping"][name]["children"] = [child] if child else []
    for node in made["mapping"].values():
        for key in missing:
            del node[key]
    assert texts(only(made)) == words


def test_a_message_whose_parent_is_missing_follows_the_one_before_it() -> None:
    made = copy.deepcopy(CHATGPT)
    del made["mapping"]["a2"]
    assert {message.text for message in only(made).messages} == {
        "How?", "Like so.", "And then?\n\n[picture]\nWhat is it?", "A cat."
    }  # fmt: skip


def test_messages_in_a_circle_are_cut_open() -> None:
    made = chatgpt(chatgpt_node("a", "b", "user", "x"), chatgpt_node("b", "a", "assistant", "y"))
    assert texts(only(made)) == ["x", "y"]
    itself = chatgpt(chatgpt_node("a", "a", "user", "x"), conversation_id="2")
    assert texts(only(itself)) == ["x"]


def test_chatgpt_marks_of_citations_are_links_or_gone() -> None:
    cite, lost = "\ue200cite\ue202turn0search0\ue201", "\ue200cite\ue202turn1news2\ue201"
    video = "\ue200i\ue202t0\ue201"
    metadata = {
        "content_references": [
            {"matched_text": cite, "type": "grouped_webpages",
             "items": [{"title": "A [good] page", "url": "https://a.example/x"}, {"url": "javascript:alert(1)"}]},
            {"matched_text": video, "type": "image_v2"},
        ],
        "citations": [
            {"metadata": {"title": "Old", "url": "https://b.example/x_(y)", "extra": {"cited_message_idx": 4}}},
            7,
        ],
    }  # fmt: skip
    said = (
        f"It is so {cite}. Or {lost}not{video}. See 【4†source】 and 【5†L1-L3】. "
        '\ue200entity\ue202["people","Ada Lovelace","x"]\ue201 \ue200url\ue202Site\ue202https://c.example\ue201'
        " 【注】 \ue203:contentReference[oaicite:0]{index=0}"
    )
    (text,) = answer_of(chatgpt_node("a", "u", "assistant", said, metadata=metadata))
    assert text == Text(
        "It is so [A good page](https://a.example/x). Ornot. See [Old](https://b.example/x_%28y%29) and. "
        "Ada Lovelace [Site](https://c.example) 【注】 "
    )
    assert texts(only(chatgpt(chatgpt_node("u", "root", "user", "What is 【4†source】?")))) == ["What is 【4†source】?"]


def test_chatgpt_traces() -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    voice = {"content_type": "audio_transcription", "text": "Hello there", "direction": "in"}
    recording = {"content_type": "audio_asset_pointer", "asset_pointer": "x"}
    uploads = {"attachments": [{"name": "../../cat\x1b[2J.png", "mime_type": "image/png"}, {"name": "data.csv"}]}
    video = {"content_type": "real_time_user_audio_video_asset_pointer"}
    made = chatgpt(
        chatgpt_node("u1", "root", "user", picture, "Look", kind="multimodal_text", metadata=uploads),
        chatgpt_node("a1", "u1", "assistant", {"content_type": "audio_transcription", "text": "Yes?"}, recording,
                     kind="multimodal_text"),
        chatgpt_node("u2", "a1", "user", voice, recording, kind="multimodal_text"),
        chatgpt_node("a2", "u2", "assistant", "Hi."),
        chatgpt_node("u3", "a2", "user", video, kind="multimodal_text"),
    )  # fmt: skip
    assert texts(only(made)) == [
        "[picture: ../../cat[2J.png]\n[file: data.csv]\nLook",
        "Yes?",
        "Hello there",
        "Hi.",
        "[audio]",
    ]


def test_chatgpt_tools_thoughts_canvas_and_drawn_pictures() -> None:
    drawn = {"content_type": "image_asset_pointer", "metadata": {"dalle": {"prompt": "a cat"}}}
    canvas = '{"name": "plan", "type": "document", "content": "# Plan"}'
    update = '{"updates": [{"pattern": ".*", "multiple": false, "replacement": "# New"}]}'
    thoughts = chatgpt_node("t", "u", "assistant", kind="thoughts")
    thoughts["message"]["content"] = {
        "content_type": "thoughts",
        "thoughts": [{"summary": "Plan", "content": "Do."}, "odd"],
    }
    code = chatgpt_node("c", "t", "assistant", recipient="python")
    code["message"]["content"] = {"content_type": "code", "language": "python", "text": "1 + 1"}
    output = chatgpt_node("o", "c", "tool", author={"role": "tool", "name": "python"})
    output["message"]["content"] = {"content_type": "execution_output", "text": "2"}
    parts = answer_of(
        thoughts,
        code,
        output,
        chatgpt_node("w", "o", "assistant", canvas, recipient="canmore.create_textdoc"),
        chatgpt_node("x", "w", "assistant", update, recipient="canmore.update_textdoc"),
        chatgpt_node("d", "x", "tool", drawn, kind="multimodal_text"),
        chatgpt_node("a", "d", "assistant", "Done.", metadata={"is_visually_hidden_from_conversation": False}),
    )
    assert parts == (
        Reasoning("Plan\n\nDo."),
        ToolCall("call-1", "python", '{"input":"1 + 1"}'),
        ToolResult("call-1", "python", "2"),
        Text("[document: plan]\n```\n# Plan\n```\n\n[document: changed]\n```\n# New\n```\n\n[picture: a cat]\n\nDone."),
    )


def test_chatgpt_instructions_and_the_usual_model() -> None:
    told = chatgpt_node("i", "root", "user", metadata={"is_visually_hidden_from_conversation": True})
    told["message"]["content"] = {
        "content_type": "user_editable_context", "user_profile": "A sailor.", "user_instructions": "Be brief."
    }  # fmt: skip
    archive = only(
        chatgpt(
            told,
            chatgpt_node("u", "i", "user", "Q"),
            chatgpt_node("a", "u", "assistant", "A"),
            default_model_slug="gpt-5",
        )
    )
    assert archive.session.system == "A sailor.\n\nBe brief."
    assert [(message.text, message.model) for message in archive.messages] == [("Q", ""), ("A", "gpt-5")]


def test_what_is_left_out_is_counted() -> None:
    reading = read(
        {"messages": [{"role": "user", "content": "Q"}, {"role": "narrator", "content": "Then"},
                      {"role": "Narrator", "content": "Later"}, {"content": "x"}, 5, {"role": "narrator"}]}
    )  # fmt: skip
    assert reading.left_out == {
        "its speaker “narrator” is unknown": 1,
        "its speaker “Narrator” is unknown": 1,
        "it has no speaker": 1,
        "its contents can't be read": 1,
    }
    assert len(reading.archives) == 1


@pytest.mark.parametrize(
    ("user", "model"),
    [("Human", "GPT"), ("USER", "model"), ("human", "bot"), (" user ", "Assistant"), ("用户", "助手"), ("Me", "AI"),
     ("prompter", "ChatGPT"), ("You", "Claude")],
)  # fmt: skip
def test_speakers_by_any_usual_name(user: str, model: str) -> None:
    for document in (
        {"conversations": [{"from": user, "value": "Q"}, {"from": model, "value": "A"}]},
        {"messages": [{"role": user, "content": "Q"}, {"role": model, "content": "A"}]},
        {"chat": {"messages": [{"role": user, "content": "Q"}, {"role": model, "content": "A"}]}},
    ):
        assert [(message.role.value, message.text) for message in only(document).messages] == [
            ("user", "Q"),
            ("assistant", "A"),
        ]


def test_other_speakers() -> None:
    assert [speaker_of(name) for name in ("System", "developer", "TOOL", "observation", "function_call", "x", 5)] == [
        Speaker.SYSTEM,
        Speaker.SYSTEM,
        Speaker.RESULT,
        Speaker.RESULT,
        Speaker.CALL,
        Speaker.UNKNOWN,
        Speaker.UNKNOWN,
    ]


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        (1_697_000_000, 1_697_000_000_000),
        ("1697000000", 1_697_000_000_000),
        ("1697000000.25", 1_697_000_000_250),
        ("1697000000250", 1_697_000_000_250),
        ("2023-10-11T04:53:20Z", 1_697_000_000_000),
        ("2023-10-11T12:53:20+08:00", 1_697_000_000_000),
        ("2023-10-11 04:53:20", 1_697_000_000_000),
        ("2023-10-11T04:53:20.123456789Z", 1_697_000_000_123),
        ("yesterday", None),
        ("", None),
        ("nan", None),
        ("1e999", None),
        ("9" * 100_000, None),
        ("0001-01-01T00:00:00+23:59", None),
        (True, None),
        ([], None),
    ],
)
def test_times(time: object, moment: int | None) -> None:
    assert unix_ms(time) == moment


RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "no", "is_error": True}


def test_blocks_of_messages_as_anthropic_has_them() -> None:
    asked, answer = only(
        {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                {"role": "user", "content": [RESULT]},
                {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
            ]
        }
    ).messages
    assert asked.text == "Q"
    assert answer.parts == (ToolCall("1", "f", "{}"), ToolResult("1", "f", "no", is_error=True), Text("A"))


def test_a_chat_in_lines_with_an_id_grows_and_one_without_is_another() -> None:
    grown = copy.deepcopy(SHAREGPT)
    grown["conversations"].append({"from": "human", "value": "Thanks"})
    store = MemoryArchives(*read(SHAREGPT).archives)
    assert store.add_archives(read(grown).archives) == 1
    assert [len(archive.messages) for archive in store.archives.values()] == [3]
    other = OPENAI | {"messages": [*OPENAI["messages"], {"role": "user", "content": "Thanks"}]}
    store.add_archives(read(OPENAI, other).archives)
    assert len(store.archives) == 3


@pytest.mark.parametrize("document", EVERY_FORMAT)
def test_a_second_import_adds_nothing_even_if_the_file_is_newer(document: JSON) -> None:
    store = MemoryArchives(*read(document).archives)
    later = importers.read(records.records_in(BytesIO(json.dumps(document).encode()), WRITTEN + 9_000_000))
    assert store.add_archives(later.archives) == 0


def test_one_long_field_and_deep_children_are_harmless() -> None:
    long = "【4†" * 3_000_000
    (part,) = answer_of(chatgpt_node("a", "u", "assistant", long))
    assert part == Text(long)
    archive = only(claude := CLAUDE | {"name": "x" * 10_000_000, "uuid": "long"})
    assert len(archive.session.title) <= 200 < len(claude["name"])
    deep: list[Any] = []
    for number in range(200):
        deep = [LIBRECHAT["messages"][0] | {"messageId": str(number), "isCreatedByUser": bool(number % 2),
                                            "children": deep}]  # fmt: skip
    assert len(only({"conversationId": "deep", "messages": deep}).messages) == 200


def test_messages_with_the_same_id_are_all_there() -> None:
    twice = {"uuid": "t", "chat_messages": [claude_message("c", role, {"type": "text", "text": text})
                                            for role, text in (("human", "Q"), ("assistant", "A"))]}  # fmt: skip
    assert texts(only(twice)) == ["Q", "A"]
