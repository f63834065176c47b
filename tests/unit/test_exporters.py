"""What each format contains, and that no message can affect the rest of an export."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt
from msgspec import structs

from qwenchat.chat.message import Attachment, Citation, Part, Reasoning, Role, Status, Text, ToolCall, ToolResult
from qwenchat.errors import WrongUse
from qwenchat.sessions import exporters
from qwenchat.sessions.archive import Archive, normal
from qwenchat.sessions.exporters.html import LONGEST, answer_html, answer_parser, question_html, question_parser
from qwenchat.sessions.exporters.md import contained
from qwenchat.sessions.reading_order import ordered
from tests.fakes.archives import NASTY, archives, branching, exported, talk, with_file

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FORMATS = ["html", "json", "jsonl", "md", "sharegpt", "txt"]


def test_every_format_is_found_by_its_name() -> None:
    assert exporters.names() == FORMATS
    assert all(exporters.named(name).name == name for name in FORMATS)
    with pytest.raises(WrongUse, match="docx"):
        exporters.named("docx")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(archive=archives())
def test_exports_contain_no_control_characters(name: str, archive: Archive) -> None:
    assert not CONTROL.search(exported(name, archive, all_branches=True))


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_session_can_be_written(name: str) -> None:
    assert exported(name, talk()).isprintable() or "\n" in exported(name, talk())
    assert exported(name, talk(), all_branches=True) == exported(name, talk())


def test_a_summary_is_called_one_and_is_a_note_in_what_models_read() -> None:
    chat = talk("They met.", "E?", "F.")
    first = structs.replace(chat.messages[0], summarises=4)
    chat = structs.replace(chat, messages=(first, *chat.messages[1:]))
    for name in ("md", "txt", "html"):
        assert "Summary of 4 earlier messages" in exported(name, chat)
    for name in ("jsonl", "sharegpt"):
        assert "[Summary of the 4 messages before this one]\\nThey met." in exported(name, chat)
    assert '"summarises": 4' in exported("json", chat) or '"summarises":4' in exported("json", chat)


def test_the_branch_being_read_is_written_and_all_if_asked() -> None:
    tree = branching()
    assert [entry.message.text for entry in ordered(tree, False)] == ["Q one", "A two"]
    written = ordered(tree, True)
    assert [entry.message.text for entry in written] == ["Q one", "A one", "A two", "Q two", "A three"]
    assert [(entry.variant, entry.variants, entry.follows) for entry in written] == [
        (1, 2, 0),
        (1, 2, 0),
        (2, 2, 1),
        (2, 2, 0),
        (1, 1, 0),
    ]
    assert len(exported("jsonl", tree).splitlines()) == 1
    assert len(exported("jsonl", tree, all_branches=True).splitlines()) == 3


def test_jsonl_is_what_fine_tuning_reads() -> None:
    (line,) = exported("jsonl", talk("Q", "A", system="Be brief.")).splitlines()
    assert json.loads(line) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ]
    }


def test_sharegpt_is_what_llama_factory_reads() -> None:
    found = json.loads(exported("sharegpt", talk("Q", "A", "left out"), talk("only a question"), talk("X", "Y")))
    assert [sorted(each) for each in found] == [["conversations", "system"]] * 2
    assert found[0]["conversations"] == [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


def test_sharegpt_keeps_an_answer_at_the_beginning_and_questions_in_a_row() -> None:
    greeting, asked, answer = talk("Hello, I am Qwen.", "Q", "A").messages
    roles = (Role.ASSISTANT, Role.USER, Role.ASSISTANT)
    made = [structs.replace(each, role=role) for each, role in zip((greeting, asked, answer), roles, strict=True)]
    (found,) = json.loads(exported("sharegpt", structs.replace(talk("x", "y", "z"), messages=tuple(made))))
    assert found["conversations"] == [
        {"from": "human", "value": ""},
        {"from": "gpt", "value": "Hello, I am Qwen."},
        {"from": "human", "value": "Q"},
        {"from": "gpt", "value": "A"},
    ]
    asked_again = talk("Q1", "A1", "Q2", "A2")
    first, lost, *others = asked_again.messages
    lost = structs.replace(lost, parts=(ToolCall("c", "f", "{}"),))
    (found,) = json.loads(exported("sharegpt", structs.replace(asked_again, messages=(first, lost, *others))))
    assert found["conversations"] == [{"from": "human", "value": "Q1\n\nQ2"}, {"from": "gpt", "value": "A2"}]


def test_plain_text_preserves_the_text() -> None:
    text = exported("txt", with_file(branching(), "a.txt", b"one\ntwo\n"), all_branches=True)
    assert text.startswith("Tree\n2025-06-15 15:06 UTC – 2025-06-15 15:07 UTC · 7b:q4_k_m\n")
    assert "3. Assistant (2/2) · after no. 1 · 2025-06-15 15:06 UTC · 7b:q4_k_m · stopped" in text
    assert "[a.txt · text/plain · 8 bytes]\n\n    one\n    two\n" in text


def headings(markdown: str) -> list[str]:
    """The page's own headings: those of level 1 and 2 outside lists and quotes."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    return [
        tokens[index + 1].content
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.tag in ("h1", "h2")
    ]


@settings(max_examples=60, deadline=None)
@given(archives())
def test_in_markdown_only_turns_are_headings(archive: Archive) -> None:
    markdown = exported("md", archive, all_branches=True)
    front, page = markdown.split("\n---\n", 1)
    assert front.startswith("---\n")
    assert all(re.fullmatch(r"\w+: .+", line) for line in front.splitlines()[1:])
    wanted = 1 + bool(archive.session.system) + len(archive.messages)
    assert len(headings(page)) == wanted
    assert len([line for line in headings(page) if re.match(r"(\d+\. )?(You|Assistant|Summary of)", line)]) >= len(
        archive.messages
    )


@pytest.mark.parametrize("text", NASTY)
def test_hostile_markdown_does_not_affect_the_next_message(text: str) -> None:
    said = exported("md", talk(text, f"{text}\n{text}", "the end"))
    assert len(headings(said.split("\n---\n", 1)[1])) == 4
    assert MarkdownIt("commonmark").parse(said)[-2].content == "the end"


def test_markdown_leaves_harmless_text_as_it_is() -> None:
    blocks = MarkdownIt("commonmark").disable("inline")
    text = "A *list*:\n\n1. one\n2. two\n\n```py\n# comment\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<b>x</b>"
    assert contained(text, blocks) == text
    assert contained("# One\n\nTwo\n---\ntext", blocks) == "### One\n\n#### Two\n\ntext"
    assert contained("```py\nx = 1", blocks) == "```py\nx = 1\n```"


@pytest.mark.parametrize(
    "text",
    [
        "[note]: https://evil.example",
        "[note]: https://evil.example\n[other]: https://evil.example 'title'\n[note]: https://evil.example",
        "> - [no\n>   te]:\n>   https://evil.example",
        "[note]: https://evil.example\n===\n[note]: https://evil.example",
        "<script>\n\n[note]: https://evil.example",
        "text\n\n   [note]:\nhttps://evil.example\n\n```",
    ],
)
def test_in_markdown_no_message_makes_links_of_anothers_words(text: str) -> None:
    page = exported("md", talk("See [note] and [other].", text, "see [note]", system=text)).split("\n---\n", 1)[1]
    env: dict[str, object] = {}
    assert "<a " not in MarkdownIt("commonmark").render(page, env)
    assert not env.get("references")
    assert len(headings(page)) == 5


@settings(max_examples=60, deadline=None)
@given(archives())
def test_in_markdown_nothing_defines_a_link(archive: Archive) -> None:
    env: dict[str, object] = {}
    MarkdownIt("commonmark").parse(exported("md", archive, all_branches=True).split("\n---\n", 1)[1], env)
    assert not env.get("references")


def test_front_matter_quotes_its_title() -> None:
    lines = exported("md", talk("Q", title='---\nmodel: "x" # \x1b[31m')).splitlines()
    assert lines[1] == 'title: "--- model: \\"x\\" # [31m"'
    assert lines[3] == 'model: ""'
    assert lines[4] == "created: 2025-06-15T15:06:40Z"


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.words = ""
        self.style = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.words += data


ALLOWED_TAGS = re.compile(
    "html|head|meta|title|style|body|main|header|article|h[1-6]|p|div|span|a|details|summary|pre|code|em|strong|s|ul|ol|"
    "li|blockquote|table|thead|tbody|tr|th|td|br|hr"
)
ALLOWED_ATTRIBUTES = {
    "charset",
    "http-equiv",
    "content",
    "name",
    "dir",
    "class",
    "id",
    "href",
    "open",
    "start",
    "style",
}


def check_page(page: str) -> Page:
    found = Page(page)
    assert not found.open
    assert all(ALLOWED_TAGS.fullmatch(tag) for tag in found.tags)
    assert {name for name, _value in found.attributes} <= ALLOWED_ATTRIBUTES | {"title"}
    for name, value in found.attributes:
        assert name != "href" or re.match(r"https?:|mailto:|#m\d+$", value, re.IGNORECASE)
        assert name != "style" or re.fullmatch(r"text-align:(left|right|center)", value)
    assert not re.search(r"@import|url\(|expression|</", found.style)
    assert found.tags.count("style") == found.tags.count("title") == 1
    return found


@settings(max_examples=60, deadline=None)
@given(archives())
def test_a_page_has_no_script_and_loads_nothing(archive: Archive) -> None:
    page = check_page(exported("html", archive, all_branches=True))
    assert page.tags.count("article") == len(archive.messages) + bool(archive.session.system)


@pytest.mark.parametrize("text", NASTY)
def test_a_page_shows_nasty_text_as_text(text: str) -> None:
    page = check_page(exported("html", with_file(talk(text, text, title=text), text, text.encode())))
    for word in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)"):
        assert page.words.count(word) >= 3 * (word in text)


def test_a_page_follows_the_reader_and_colours_code() -> None:
    page = exported("html", talk("Write it", "```python\ndef f(): return 'x'\n```"))
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "default-src 'none'" in page
    assert '<span class="k">def</span>' in page


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**注意：**请看", "<p><strong>注意：</strong>请看</p>\n"),
        ("这是**“重点”**吗", "<p>这是<strong>“重点”</strong>吗</p>\n"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>\n"),
        ("snake_case_name", "<p>snake_case_name</p>\n"),
        (r"\(a_b\) costs $5 or $6", '<p><span class="formula">\\(a_b\\)</span> costs $5 or $6</p>\n'),
        ("List<String> x", "<p>List&lt;String&gt; x</p>\n"),
        ("<think>hm</think>", "<p>&lt;think&gt;hm&lt;/think&gt;</p>\n"),
        ("![a](http://x.y/z.png)", '<p><span class="image">a ‹http://x.y/z.png›</span></p>\n'),
        ("[a](javascript:x)", "<p>[a](javascript:x)</p>\n"),
        ("[a](https://x.y)", '<p><a href="https://x.y">a</a></p>\n'),
    ],
)
def test_markdown_as_html(text: str, html: str) -> None:
    assert answer_html(text, answer_parser()) == html


def test_a_question_is_shown_as_it_was_typed_but_for_fenced_code() -> None:
    html = question_html("#include <x>\n\n\n   *y*\n```c\nint x;\n```\nend\n", question_parser())
    assert html.startswith('<p class="typed">#include &lt;x&gt;\n\n\n   *y*</p>\n<pre><code class="language-c">')
    assert html.endswith('</code></pre>\n<p class="typed">end</p>\n')


def test_text_that_a_parser_could_choke_on_is_shown_plain() -> None:
    for html in (
        answer_html("[" * (LONGEST + 1), answer_parser()),
        question_html("`" * (LONGEST + 1), question_parser()),
    ):
        assert html.startswith('<p class="typed">')
    assert "<span" not in answer_html(f"```makefile\n{'(' * 10_000}\n```", answer_parser())


@pytest.mark.parametrize(
    "text",
    [
        "<http://a/%1b]52;c;Zm9v%07>",
        "a&#13;b&#x202e;c&#x2066;d&#155;",
        '[a](http://b "&#x202e;&#x85;")',
        "![&#x2066;](http://x/%1b)",
        "```&#x202e;py\nx\n```",
    ],
)
def test_what_is_decoded_on_the_way_is_clean_too(text: str) -> None:
    assert not CONTROL.search(answer_html(text, answer_parser()) + question_html(text, question_parser()))


@pytest.mark.parametrize(
    "code",
    [" \n" * 9000 + "x", "x = 1\n" * 4000, "x" * 2001, "x" + " \t" * 200 + "\n"],
    ids=["blank", "long", "line", "space"],
)
def test_code_that_could_be_slow_is_not_highlighted(code: str) -> None:
    assert "<span" not in answer_html(f"```python\n{code}\n```", answer_parser())
    assert "<span" in answer_html("```python\nx = 1\n```", answer_parser())


def test_the_status_of_an_answer_is_exported() -> None:
    for status in Status:
        archive = talk("Q", "A")
        question, answer = archive.messages
        ended = Archive(archive.session, (question, structs.replace(answer, status=status, error="no memory")))
        said = exported("txt", ended)
        assert ("interrupted" in said) == (status in (Status.STREAMING, Status.INTERRUPTED))
        assert ("failed: no memory" in said) == (status is Status.FAILED)


PARTS = (
    Reasoning("Let me **look**."),
    Text("A moment."),
    ToolCall("c1", "clock", '{"zone": "UTC"}'),
    ToolCall("c2", "lost", "{}"),
    ToolResult("c1", "clock", "12:00"),
    ToolResult("c3", "clock", "no such zone", is_error=True),
    Text("It is **noon**."),
)


def in_parts(*parts: Part) -> Archive:
    """Return a session with one answer in parts, and a question after it."""
    made = talk("Q", "A", "Thanks")
    asked, answer, thanks = made.messages
    return structs.replace(made, messages=(asked, structs.replace(answer, parts=parts), thanks))


def test_plain_text_has_reasoning_and_tools_below_their_labels() -> None:
    text = exported("txt", in_parts(*PARTS))
    assert "[Reasoning]\n\n    Let me **look**.\n\nA moment.\n\n[Tool call: clock]\n\n    {" in text
    assert '    {"zone": "UTC"}\n\n[Result of clock]\n\n    12:00\n\n[Tool call: lost]\n\n    {}\n\n' in text
    assert "\n\n[Error of clock]\n\n    no such zone\n\nIt is **noon**.\n" in text


def test_markdown_quotes_reasoning_and_fences_tools() -> None:
    text = exported("md", in_parts(*PARTS))
    assert "\n> **Reasoning**\n>\n> Let me **look**.\n\nA moment.\n\n**Tool call: clock**\n\n```\n{" in text
    assert "\n**Error of clock**\n\n```\nno such zone\n```\n\nIt is **noon**.\n" in text


def test_a_page_folds_reasoning_and_tools() -> None:
    page = exported("html", in_parts(*PARTS))
    check_page(page)
    assert "<details>\n<summary>Reasoning</summary>\n<p>Let me <strong>look</strong>.</p>\n</details>\n<p>A m" in page
    assert "<summary>Tool call: clock</summary>\n<pre>{&quot;zone&quot;: &quot;UTC&quot;}</pre>\n</details>" in page


OWLS = Citation(
    number=1, document="birds.pdf", digest="d" * 64, start=70, text="Owls hunt at *night*.", page=12, heading="Owls"
)
NOTES = Citation(number=2, document="notes.md", digest="e" * 64, start=0, text="Crows use tools.")


def test_sources_are_listed_below_the_answer() -> None:
    made = in_parts(OWLS, NOTES, Text("At night [1]."))
    text = exported("txt", made)
    assert (
        "\n\nAt night [1].\n\n[Source 1: birds.pdf, page 12 · Owls]\n\n    Owls hunt at *night*.\n\n[Source 2: no"
        in text
    )
    assert "\nAt night [1].\n\n**Source 1: birds.pdf, page 12 · Owls**\n\n```\nOwls hunt at" in exported("md", made)
    page = exported("html", made)
    check_page(page)
    assert "<summary>Source 1: birds.pdf, page 12 · Owls</summary>\n<pre>Owls hunt at *night*.</pre>\n" in page
    for name in ("jsonl", "sharegpt"):
        assert "night [1]" in exported(name, made) and "Owls" not in exported(name, made)


def test_a_document_that_is_read_in_parts_is_named_and_not_printed() -> None:
    asked, *others = (made := talk("Q", "A")).messages
    book = Attachment("birds.pdf", "application/pdf", b"Owls hunt.", in_parts=True)
    made = structs.replace(made, messages=(structs.replace(asked, attachments=(book,)), *others))
    for name in ("txt", "md", "html", "jsonl", "sharegpt"):
        assert "birds.pdf" in exported(name, made) and "Owls" not in exported(name, made)


@pytest.mark.parametrize("text", NASTY)
def test_nothing_breaks_out_of_reasoning_or_a_tool(text: str) -> None:
    cited = Citation(number=1, document=text, digest=text, start=0, text=text, page=1, heading=text)
    nasty = (cited, Reasoning(text), ToolCall(text, text, text), ToolResult(text, text, text), Text("after"))
    page = check_page(exported("html", in_parts(*nasty)))
    assert page.words.count("<script>alert(1)</script>") >= 4 * ("<script>" in text)
    said = exported("md", in_parts(*nasty)).split("\n---\n", 1)[1]
    assert len(headings(said)) == 4
    assert not CONTROL.search(said + exported("txt", in_parts(*nasty)))
    env: dict[str, object] = {}
    MarkdownIt("commonmark").parse(said, env)
    assert not env.get("references")


def test_jsonl_has_calls_and_their_results_in_messages_of_their_own() -> None:
    (line,) = exported("jsonl", in_parts(*PARTS)).splitlines()
    assert json.loads(line)["messages"] == [
        {"role": "user", "content": "Q"},
        {
            "role": "assistant",
            "content": "A moment.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
        {"role": "assistant", "content": "It is **noon**."},
        {"role": "user", "content": "Thanks"},
    ]


def test_sharegpt_has_each_call_with_its_result() -> None:
    (found,) = json.loads(exported("sharegpt", in_parts(*PARTS)))
    assert found["conversations"] == [
        {"from": "human", "value": "Q"},
        {
            "from": "function_call",
            "value": '{"name":"clock","arguments":{"zone": "UTC"},"id":"c1","content":"A moment."}',
        },
        {"from": "observation", "value": "12:00"},
        {"from": "gpt", "value": "It is **noon**."},
    ]
    (cut_off,) = json.loads(exported("sharegpt", in_parts(*PARTS[2:5])))
    assert [entry["from"] for entry in cut_off["conversations"]] == ["human", "function_call"]


TWO_ROUNDS = (
    Text("A moment."),
    ToolCall("c1", "clock", '{"zone": "UTC"}'),
    ToolCall("c2", "sum", "[1]"),
    ToolResult("c2", "sum", "Not an object.", is_error=True),
    ToolResult("c1", "clock", "12:00"),
    ToolCall("c3", "sum", "{}"),
    ToolResult("c3", "sum", "3"),
    Text("Noon."),
)


def test_jsonl_answers_each_call_before_the_next_round() -> None:
    (line,) = exported("jsonl", in_parts(*TWO_ROUNDS)).splitlines()
    made = json.loads(line)["messages"][1:-1]
    assert [message["role"] for message in made] == ["assistant", "tool", "tool", "assistant", "tool", "assistant"]
    assert [[call["id"] for call in message.get("tool_calls", ())] for message in made[::3]] == [["c1", "c2"], ["c3"]]
    assert [message["content"] for message in made] == [
        "A moment.",
        "12:00",
        '{"error":"Not an object."}',
        "",
        "3",
        "Noon.",
    ]


def test_sharegpt_alternates_whatever_is_called_at_the_same_time() -> None:
    (found,) = json.loads(exported("sharegpt", in_parts(*TWO_ROUNDS)))
    made = found["conversations"][1:]
    assert [entry["from"] for entry in made] == [*["function_call", "observation"] * 2, "gpt"]
    assert json.loads(made[0]["value"]) == [
        {"name": "clock", "arguments": {"zone": "UTC"}, "id": "c1", "content": "A moment."},
        {"name": "sum", "arguments": "[1]", "id": "c2"},
    ]
    assert json.loads(made[1]["value"]) == ["12:00", '{"error":"Not an object."}']


@pytest.mark.parametrize("name", ["txt", "md", "html"])
def test_each_result_is_below_its_call(name: str) -> None:
    text = exported(name, in_parts(*TWO_ROUNDS))
    places = [text.index(words) for words in ("Tool call: clock", "12:00", "Tool call: sum", "Not an object.")]
    assert places == sorted(places)


def test_pieces_come_one_message_at_a_time() -> None:
    read: list[str] = []

    def many() -> Iterator[Archive]:
        for name in ("one", "two"):
            read.append(name)
            yield normal(talk("Q", "A", session=name))

    pieces = exporters.named("jsonl").write(many(), False)
    next(pieces)
    assert read == ["one"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_lone_surrogate_stops_no_export(name: str) -> None:
    text = exported(name, talk("a\ud800b", "c", title="\udfff", system="\ud800"))
    assert text.encode()
    assert "c" in text
