"""Other programs' files become sessions: trees, missing fields, wrong types, and no duplicates."""

import json
import zipfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from qwenchat.chat.message import Message, Part, Reasoning, Role, Status, Text, ToolCall, ToolResult
from qwenchat.chat.session import Session
from qwenchat.chat.tree import Tree
from qwenchat.errors import FileError
from qwenchat.sessions import importers, records
from qwenchat.sessions.archive import Archive
from tests.fakes.archives import MemoryArchives, branching, exported, talk, with_file
from tests.fakes.foreign import CHATGPT, EVERY_FORMAT, chatgpt, chatgpt_node, openwebui
from tests.fakes.stores import full_answer, full_session, question

WRITTEN = 1_700_000_000_000


def read_bytes(data: bytes) -> importers.ImportedFile:
    return importers.read(records.records_in(BytesIO(data), WRITTEN))


def read(*documents: object) -> importers.ImportedFile:
    return read_bytes(json.dumps(documents).encode())


def read_lines(*documents: object) -> importers.ImportedFile:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in documents]
    return read_bytes("\n".join(lines).encode())


def branch(archive: Archive) -> list[tuple[str, str]]:
    return [(message.role.value, message.text) for message in Tree(archive.messages).branch(archive.session.leaf)]


def test_chatgpt_with_its_branches() -> None:
    (archive,) = read(CHATGPT).archives
    assert branch(archive) == [
        ("user", "How?"),
        ("assistant", "Or so."),
        ("user", "[picture]\nWhat is it?"),
        ("assistant", "A cat."),
    ]
    tree = Tree(archive.messages)
    first = tree.children(None)[0]
    assert [(message.text, message.model) for message in tree.children(first.id)] == [
        ("Like so.", "gpt-4"),
        ("Or so.", "gpt-4o"),
    ]
    assert (first.created, archive.session.created) == (1_697_000_001_500, 1_697_000_000_250)
    assert (archive.session.title, archive.session.model, archive.session.system) == ("Python help", "", "")


def test_chatgpt_zip_with_other_files() -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("user.json", '{"id": "user-1", "email": "a@b.c"}')
        file.writestr("message_feedback.json", "[]")
        file.writestr("conversations.json", json.dumps([CHATGPT]))
        file.writestr("chat.html", "<html>")
    reading = read_bytes(packed.getvalue())
    assert len(reading.archives) == 1
    assert (reading.formats, reading.problems) == (("ChatGPT",), ())


def test_chatgpt_with_little_in_it() -> None:
    bare = {"mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}}}}}
    (archive,) = read(bare).archives
    assert branch(archive) == [("user", "Hi")]
    assert (archive.session.title, archive.session.updated) == ("Hi", WRITTEN)
    reading = read(chatgpt(chatgpt_node("x", "root", "assistant", "")), {"mapping": {}}, bare)
    assert (len(reading.archives), reading.empty, reading.problems) == (1, 2, ())


def test_answers_in_a_row_are_one() -> None:
    made = chatgpt(
        chatgpt_node("u", "root", "user", "Q"),
        chatgpt_node("a", "u", "assistant", "Let me look."),
        chatgpt_node("t", "a", "tool", "found"),
        chatgpt_node("b", "t", "assistant", "Here it is."),
        current_node="a",
    )
    (archive,) = read(made).archives
    assert branch(archive) == [("user", "Q"), ("assistant", "Let me look.\n\nHere it is.")]


def test_open_webui_with_its_branches() -> None:
    (archive,) = read(openwebui()).archives
    assert branch(archive) == [("user", "你好"), ("assistant", "你好！"), ("user", "Look\n[picture]")]
    assert [message.text for message in Tree(archive.messages).variants(archive.messages[1].id)] == ["你好！", "您好！"]
    session = archive.session
    assert (session.title, session.system, session.pinned) == ("Greeting[31m", "Be kind.", True)
    assert (session.tags, session.created, session.updated) == (
        ("greeting", "中文"),
        1_75_000_000_000,
        1_75_000_100_000,
    )


def test_open_webui_of_old_and_the_chat_alone() -> None:
    plain = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    old = {"chat": {"title": "Old", "messages": plain, "timestamp": 1_700_000_000_000}}
    alone = openwebui()["chat"]
    reading = read(old, alone)
    assert [branch(archive)[0][1] for archive in reading.archives] == ["Hi", "你好"]
    assert reading.archives[0].session.created == 1_700_000_000_000


def test_openai_lines_and_what_is_passed_over() -> None:
    reading = read_lines(
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}]},
        "",
        {
            "messages": [
                {"role": "developer", "content": "Hm."},
                {"role": "user", "content": [{"type": "text", "text": "Sum?"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                {"role": "assistant", "content": "Four."},
            ],
            "title": "Sums",
        },
    )
    assert [archive.session.system for archive in reading.archives] == ["Be brief.", "Hm."]
    assert branch(reading.archives[1]) == [("user", "Sum?"), ("assistant", "Four.")]
    assert [archive.session.title for archive in reading.archives] == ["Q", "Sums"]


def test_sharegpt_in_both_its_dialects() -> None:
    reading = read(
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"},
        {"id": 7, "conversations": [{"role": "system", "content": "S2"}, {"role": "user", "content": "Q2"}]},
        {"conversations": [{"from": "human", "value": "Q3"}, {"from": "function_call", "value": "{}"},
                           {"from": "observation", "value": "1"}, {"from": "gpt", "value": "One"}], "system": None},
    )  # fmt: skip
    assert [archive.session.system for archive in reading.archives] == ["S", "S2", ""]
    assert branch(reading.archives[2]) == [("user", "Q3"), ("assistant", "One")]


CALLS = [
    {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
    {"id": "2", "function": {"name": "now", "arguments": {"zone": "UTC"}}},
    {"id": "3"},
    "nothing",
]


def test_openai_calls_and_reasoning_are_parts_of_the_answer() -> None:
    (archive,) = read(
        {
            "messages": [
                {"role": "user", "content": "Sum?"},
                {"role": "assistant", "content": None, "reasoning_content": "Let me add.", "tool_calls": CALLS},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                {"role": "tool", "content": [{"type": "text", "text": "noon"}], "tool_call_id": "x", "name": "clock"},
                {"role": "assistant", "content": "Four."},
                {"role": "user", "content": "<think>mine</think>"},
                {"role": "assistant", "content": "<think>\nWell.\n</think>\n\nYours."},
            ]
        }
    ).archives
    _asked, answer, mine, yours = archive.messages
    assert answer.parts == (
        Reasoning("Let me add."),
        ToolCall("1", "add", '{"a": 2}'),
        ToolCall("2", "now", '{"zone":"UTC"}'),
        ToolResult("1", "add", "4"),
        ToolResult("x", "clock", "noon"),
        Text("Four."),
    )
    assert mine.parts == (Text("<think>mine</think>"),)
    assert yours.parts == (Reasoning("\nWell.\n"), Text("Yours."))


def test_sharegpt_calls_are_parts_of_the_answer() -> None:
    two = '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": "{}"}]'
    (archive,) = read(
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": two},
                           {"from": "observation", "value": "1"}, {"from": "observation", "value": "2"},
                           {"from": "observation", "value": "3"}, {"from": "function_call", "value": "odd"},
                           {"from": "gpt", "value": "One"}]}
    ).archives  # fmt: skip
    assert archive.messages[1].parts == (
        ToolCall("call-1", "a", "{}"),
        ToolCall("call-2", "b", "{}"),
        ToolResult("call-1", "a", "1"),
        ToolResult("call-2", "b", "2"),
        ToolResult("", "", "3"),
        ToolCall("call-3", "", "odd"),
        Text("One"),
    )


def result(text: str, call_id: str = "") -> dict[str, object]:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def called(name: str, arguments: object, **more: object) -> dict[str, object]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": name, "arguments": arguments}, **more}],
    }


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        (  # without ids
            [called("a", {"x": 1}), result("1"), called("b", ""), result("2")],
            (ToolCall("call-1", "a", '{"x":1}'), ToolResult("call-1", "a", "1"), ToolCall("call-2", "b", ""),
             ToolResult("call-2", "b", "2")),
        ),
        (  # one id for all
            [called("a", "{}", id="0"), result("1", "0"), called("b", "{}", id="0"),
             result("2", "0")],
            (ToolCall("0", "a", "{}"), ToolResult("0", "a", "1"), ToolCall("call-1", "b", "{}"),
             ToolResult("call-1", "b", "2")),
        ),
        (  # ids of other calls, the first result last
            [called("a", "{}", id="x"), called("b", "{}", id="y"), result("2", "?"),
             result("1", "x")],
            (ToolCall("x", "a", "{}"), ToolCall("y", "b", "{}"), ToolResult("y", "b", "2"), ToolResult("x", "a", "1")),
        ),
        (  # results without a call
            [result("1", "x"), result('{"error": "no"}')],
            (ToolResult("x", "", "1"), ToolResult("", "", "no", is_error=True)),
        ),
        (  # before `tool_calls`, and without the object around a function
            [{"role": "assistant", "content": "", "function_call": {"name": "a", "arguments": "{}"}},
             {"role": "function", "name": "a", "content": '{"error": 1}'},
             {"role": "assistant", "content": "So", "tool_calls": [{"id": 7, "name": "b", "arguments": None}]}],
            (ToolCall("call-1", "a", "{}"), ToolResult("call-1", "a", '{"error": 1}'), Text("So"),
             ToolCall("7", "b", "{}")),
        ),
        (  # a role of its own
            [{"role": "tool_call", "content": '{"name": "a", "arguments": {"x": [1,  2]}}'},
             {"role": "tool_response", "content": "1"}],
            (ToolCall("call-1", "a", '{"x": [1,  2]}'), ToolResult("call-1", "a", "1")),
        ),
    ],
)  # fmt: skip
def test_calls_with_broken_ids_find_their_results(said: list[object], parts: tuple[Part, ...]) -> None:
    (archive,) = read({"messages": [{"role": "user", "content": "Q"}, *said]}).archives
    assert archive.messages[1].parts == parts


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ([("function_call", '{"name": "a", "arguments": "{}"}'), ("observation", '{"error": "no"}')],
         (ToolCall("call-1", "a", "{}"), ToolResult("call-1", "a", "no", is_error=True))),
        ([("function_call", '{"name": "a"}'), ("observation", '["1", "2"]')],
         (ToolCall("call-1", "a", "{}"), ToolResult("call-1", "a", '["1", "2"]'))),
        ([("function_call", '[{"name": "a"}, {"name": "b"}]'), ("observation", '["1"]')],
         (ToolCall("call-1", "a", "{}"), ToolCall("call-2", "b", "{}"), ToolResult("call-1", "a", '["1"]'))),
        ([("function_call", '[{"name": "a"}, {"name": "b"}]'), ("observation", '["1", "2"]')],
         (ToolCall("call-1", "a", "{}"), ToolCall("call-2", "b", "{}"), ToolResult("call-1", "a", "1"),
          ToolResult("call-2", "b", "2"))),
        ([("observation", "1"), ("function_call", '{"name": 5}'), ("function_call", '[3, "x"]')],
         (ToolResult("", "", "1"), ToolCall("call-1", "", '{"name": 5}'), ToolCall("call-2", "", '[3, "x"]'))),
        ([("function_call", "\ud800"), ("observation", "\ud800")],
         (ToolCall("call-1", "", "\ufffd"), ToolResult("call-1", "", "\ufffd"))),
    ],
)  # fmt: skip
def test_sharegpt_calls_of_other_programs(said: list[tuple[str, str]], parts: tuple[Part, ...]) -> None:
    turns = [{"from": who, "value": value} for who, value in [("human", "Q"), *said]]
    (archive,) = read({"conversations": turns}).archives
    assert archive.messages[1].parts == parts


FOLDED = (
    '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n'
    "&gt; Is 1 &lt; 2?\n> Yes.\n</details>\n"
)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (FOLDED + "It is.", (Reasoning("Is 1 < 2?\nYes."), Text("It is."))),
        ("First.\n" + FOLDED + "Then.", (Text("First."), Reasoning("Is 1 < 2?\nYes."), Text("Then."))),
        ("<think>Hm</think>Yes.", (Reasoning("Hm"), Text("Yes."))),
        ('<details type="reasoning">\nnever closed', (Text('<details type="reasoning">\nnever closed'),)),
        ("<details><summary>x</summary>y</details>", (Text("<details><summary>x</summary>y</details>"),)),
    ],
)
def test_open_webui_reasoning_is_a_part_of_the_answer(content: str, parts: tuple[Part, ...]) -> None:
    plain = {"role": "user", "content": "Q"}, {"role": "assistant", "content": content}
    (archive,) = read({"chat": {"messages": plain}}).archives
    assert archive.messages[1].parts == parts


def test_hostile_calls_and_folds_are_read_quickly() -> None:
    deep = '{"name": "a", "arguments": ' + "[" * 100_000 + "]" * 100_000 + "}"
    folds = '<details type="reasoning">' * 100_000
    reading = read(
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": deep}]},
        {"chat": {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": folds}]}},
        {"chat": {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": folds + FOLDED}]}},
        {"chat": {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": FOLDED * 60_000}]}},
    )
    assert [archive.messages[1].parts for archive in reading.archives[:2]] == [
        (ToolCall("call-1", "", deep),),
        (Text(folds),),
    ]
    assert len(reading.archives) == 4


CLOCK, NOON = ToolCall("c1", "clock", '{"zone": "UTC",  "x": 1.0}'), ToolResult("c1", "clock", "12:00")
SUM, FAILED = ToolCall("c2", "sum", "not JSON"), ToolResult("c2", "sum", 'No "JSON".\n', is_error=True)
AGAIN, THREE = ToolCall("c3", "sum", '["a"]'), ToolResult("c3", "sum", '["3"]')
QUOTED, EMPTY = ToolCall("c4", "sum", '"text"'), ToolResult("c4", "sum", "")


@pytest.mark.parametrize(
    "parts",
    [
        (CLOCK, NOON, Text("Noon.")),
        (Text("A moment."), CLOCK, NOON, Text("Noon.")),
        (CLOCK, SUM, NOON, FAILED, Text("Noon.")),
        (Text("One."), CLOCK, NOON, Text("Two."), SUM, FAILED, AGAIN, THREE, Text("Three."), QUOTED, EMPTY, Text("4")),
        (Text("One."), CLOCK, AGAIN, QUOTED, NOON, THREE, EMPTY, Text("Two."), SUM, FAILED, Text("\u202e\x9b<p>")),
    ],
)
def test_calls_are_the_same_parts_after_a_round_trip(parts: tuple[Part, ...]) -> None:
    made = talk("Q", "A")
    asked, answer = made.messages
    made = structs.replace(made, messages=(asked, structs.replace(answer, parts=parts)))
    for name in ("jsonl", "sharegpt", "json"):
        (back,) = read_bytes(exported(name, made).encode()).archives
        assert back.messages[1].parts == parts, name


def test_version_1_of_our_own_format_is_read_exactly() -> None:
    reading = read_bytes((Path(__file__).parents[1] / "data/exports/qwenchat-1.json").read_bytes())
    tree, file, full = reading.archives
    assert not reading.problems
    assert tree == branching()
    assert file == with_file(talk("Q", "A", session="s2"), "a.txt", b"\0one\n")
    answer = structs.replace(
        full_answer("a1", "", "q1"), parts=(Text("It has <templates>.\n\x1b[31m", (0, 151_645, 2**31 - 1)),)
    )
    failed = structs.replace(full_answer("a2", "", "q1"), parts=(), status=Status.FAILED)
    assert full == Archive(
        structs.replace(full_session(), leaf="a1", tools=None, collections=(), level=None),
        (question("q1", "How does C++ differ? 我爱北京"), answer, failed),
    )


def test_version_2_of_our_own_format_is_read_exactly() -> None:
    made = with_file(talk("Q", "A"), "a.txt", b"\0one\n")
    [record] = json.loads(exported("json", made))
    for message in record["messages"]:
        del message["summarises"]
        for attachment in message["attachments"]:
            del attachment["in_parts"]
    del record["session"]["collections"], record["session"]["level"]
    assert read(record | {"version": 2}).archives == (made,)


@pytest.mark.parametrize("document", EVERY_FORMAT)
def test_the_same_file_twice_makes_nothing_new(document: object) -> None:
    store = MemoryArchives()
    assert store.add_archives(read(document).archives) == 1
    before = dict(store.archives)
    assert store.add_archives(read(document).archives) == 0
    assert store.archives == before


def test_formats_do_not_claim_each_others_records() -> None:
    documents = [*EVERY_FORMAT, json.loads(exported("json", branching()))[0]]
    for document in documents:
        assert sum(form.knows(document) for form in importers.formats()) == 1
    assert len(read(*documents).formats) == len(importers.formats()) == 9


def test_a_chat_that_has_grown_keeps_its_old_messages() -> None:
    more = json.loads(json.dumps(CHATGPT))
    more["mapping"]["u4"] = chatgpt_node("u4", "a3", "user", "Thanks", create_time=1_697_000_100)
    store = MemoryArchives(*read(CHATGPT).archives)
    before = len(next(iter(store.archives.values())).messages)
    assert store.add_archives(read(more).archives) == 1
    assert len(store.archives) == 1
    [grown] = store.archives.values()
    assert len(grown.messages) == before + 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "known format"),
        ({}, "known format"),
        ({"messages": "x"}, "known format"),
        ({"messages": [{"content": "no role"}]}, "none of its messages can be read: it has no speaker"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "its speaker “narrator” is unknown"),
        ({"messages": [{"role": "user", "content": 5}]}, "its contents can't be read"),
        ({"conversations": [3]}, "its contents can't be read"),
        ({"mapping": {"a": 5}}, "its contents can't be read"),
        ({"mapping": {"a": {"message": "me"}}}, "its contents can't be read"),
        ({"format": "qwenchat", "version": 4}, "newer qwenchat"),
        ({"format": "qwenchat", "version": "x"}, "newer qwenchat"),
        ({"format": "qwenchat", "version": 1}, "the field session is missing"),
        ({"format": "qwenchat", "version": 2}, "the field session is missing"),
    ],
)
def test_a_bad_record_is_named_and_the_rest_goes_in(bad: object, reason: str) -> None:
    good = {"messages": [{"role": "user", "content": "Q"}]}
    reading = read(good, bad, good | {"title": "again"})
    assert [problem.place for problem in reading.problems] == ["record 2"]
    assert len(reading.archives) == 2
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(reading.problems[0].reason)


def changed(**fields: object) -> dict[str, Any]:
    """Our own format with a field of the session or (with `message_`) of the last message changed, or its version."""
    document: dict[str, Any] = json.loads(exported("json", talk("Q", "A")))[0]
    document["version"] = fields.pop("version", document["version"])
    for name, value in fields.items():
        part = document["messages"][-1] if name.startswith("message_") else document["session"]
        part[name.removeprefix("message_")] = value
    return document


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "../../etc"},
        {"id": ""},
        {"id": "x" * 65},
        {"id": "a\x1b[31m"},
        {"leaf": "nowhere"},
        {"created": -1},
        {"updated": 10**18},
        {"trashed": 10**30},
        {"title": 5},
        {"sampling": {"temperature": 1e300}},
        {"sampling": {"max_tokens": 2**60}},
        {"message_id": "s1-0"},
        {"message_id": "/"},
        {"message_session": "other"},
        {"message_parent": "nowhere"},
        {"message_parent": "s1-1"},
        {"message_parent": "s1-1", "leaf": "s1-0"},
        {"message_role": "system"},
        {"message_status": "fine"},
        {"message_created": "now"},
        {"message_finished": -5},
        {"message_parts": [{"kind": "text", "text": "A", "token_ids": [-1]}]},
        {"message_parts": [{"kind": "reasoning", "text": "A", "token_ids": [2**40]}]},
        {"message_parts": [{"kind": "tool_call", "id": "c", "name": 5, "arguments": "{}"}]},
        {"message_parts": [{"kind": "tool_result", "call_id": "c", "name": "n", "text": "t", "took_ms": -1}]},
        {"message_parts": [{"kind": "song", "text": "A"}]},
        {"message_parts": [{"text": "A"}]},
        {"message_parts": ["A"]},
        {"message_parts": None},
        {"message_parts": [{"kind": "reasoning", "text": "A"}], "message_role": "user"},
        {"message_text": "A", "version": 1, "message_token_ids": [-1]},
        {"message_text": "A", "version": 1, "message_token_ids": [2**40]},
        {"message_attachments": [{"name": "a", "media_type": "b", "data": "!"}]},
        {"message_usage": {"prompt_tokens": 2**60}},
        {"message_timings": {"load_s": 1e30}},
    ],
)
def test_our_own_format_refuses_invalid_values(fields: dict[str, object]) -> None:
    reading = read(changed(), changed(**fields))
    assert len(reading.archives) == 1
    assert [problem.place for problem in reading.problems] == ["record 2"]


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    assert read(changed() | {"new": 1}).archives == read(changed()).archives


def test_a_message_id_belongs_to_one_session() -> None:
    other = changed(id="s2", leaf=None)
    for message in other["messages"]:
        message["session"] = "s2"
    assert [problem.reason for problem in read(changed(), other).problems] == [
        "a message of another chat has the same id"
    ]


def test_hostile_titles_and_names_are_cleaned_and_words_are_not() -> None:
    parts = [
        {"kind": "text", "text": "\x1b[2J\0"},
        {"kind": "tool_call", "id": "\n", "name": "a\x07b", "arguments": ""},
    ]
    document = changed(title="a\nb\x1b]0;x\x07", tags=["x\n\x1b"], message_parts=parts, model="m\r\n")
    (archive,) = read(document).archives
    assert (archive.session.title, archive.session.tags, archive.session.model) == ("a b]0;x", ("x",), "m")
    assert archive.messages[-1].parts == (Text("\x1b[2J\0"), ToolCall("", "ab", ""))


def test_lone_surrogates_are_replaced() -> None:
    (archive,) = read_bytes(rb'[{"messages":[{"role":"user","content":"a\ud83d b\ud83d\ude00 \\ud83d"}]}]').archives
    assert archive.messages[0].text == "a\ufffd b😀 \\ud83d"


def test_deep_and_wide_trees_are_read_without_recursion() -> None:
    names = [f"n{number}" for number in range(5_000)]
    roles = {name: "assistant" if number % 2 else "user" for number, name in enumerate(names)}
    deep = [chatgpt_node(name, above, roles[name], name) for above, name in pairwise(["root", *names])]
    wide = [chatgpt_node(name, "root", "user", name) for name in names]
    reading = read(chatgpt(*deep), chatgpt(*wide, conversation_id="wide"))
    assert [len(archive.messages) for archive in reading.archives] == [5_000, 5_000]
    assert not reading.problems
    assert branch(reading.archives[0])[-1] == ("assistant", "n4999")


def test_siblings_without_dates_keep_their_order() -> None:
    nodes = [chatgpt_node(f"n{number}", "root", "user", str(number)) for number in range(50)]
    (archive,) = read(chatgpt(*nodes)).archives
    assert [message.text for message in Tree(archive.messages).children(None)] == [str(n) for n in range(50)]


def test_a_session_of_ours_keeps_its_ids() -> None:
    (archive,) = read_bytes(exported("json", branching()).encode()).archives
    assert archive.session == branching().session
    assert isinstance(archive.session, Session)
    assert {message.id for message in archive.messages} == {message.id for message in branching().messages}
    assert all(isinstance(message, Message) and message.role in Role for message in archive.messages)


def test_a_file_without_chats_names_the_supported_formats(tmp_path: Path) -> None:
    for text in ('{"a": 1}', "[1, 2]", '"text"'):
        with pytest.raises(FileError, match="no chat") as caught:
            read_bytes(text.encode())
        assert "ChatGPT" in caught.value.hint
    with pytest.raises(FileError, match="It contains no chats") as caught:
        read_bytes(b"[]")
    assert "ChatGPT" in caught.value.hint
