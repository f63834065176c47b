"""What a user types finds what the user means, in any script, and is never an error."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from qwenchat.chat.message import Message, Part, Reasoning, Role, Text, ToolCall
from qwenchat.chat.session import Session
from qwenchat.sessions import search
from qwenchat.sessions.query import parse_query
from qwenchat.sessions.search import SearchResults
from qwenchat.sessions.store import Store
from tests.fakes.stores import filled, full_answer, question, store_in

DAY_MS = 86_400_000
TEXTS = {
    "en": "The migrations were running while she wrote templates in C++ and snake_case.",
    "zh": "我爱北京天安门，用Python写代码。",
    "mixed": "用 C++ 写 C# 程序；价格是100元",
    "emoji": "Well done 👍🏽 and 👨‍👩‍👧 🇨🇳",
    "accents": "Le café est déjà fermé. Straße. ＦＵＬＬ width ﬁne",
    "japanese": "東京タワーへ行きます",
    "korean": "안녕하세요 세계",
    "code": "`std::vector<int> my_vec;` costs $5, 50% of node.js @home #1",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = store_in(tmp_path_factory.mktemp("search"))
    store.create(Session(id="s", created=1, updated=1, title="About things"))
    for n, (name, text) in enumerate(TEXTS.items()):
        store.add(question(name, text, created=n * DAY_MS))
    store.create(Session(id="t", created=1, updated=1, title="旅行计划 travel", tags=("work", "Two Words")))
    store.add(question("q", "Where to go?", session="t", created=DAY_MS * 30))
    store.add(full_answer("a", "Go to the templates museum.", "q", session="t"))
    return store


def ids(found: SearchResults) -> set[str]:
    return {hit.message or f"title of {hit.session}" for hit in found.hits}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("migration", {"en"}),
        ("MIGRATIONS", {"en"}),
        ("runs", {"en"}),
        ("migrat", {"en"}),
        ("migratio", {"en"}),
        ("mig", {"en"}),
        ("template", {"en", "a"}),
        ("running template", {"en"}),
        ('"wrote templates"', {"en"}),
        ('"templates wrote"', set()),
        ("C++", {"en", "mixed"}),
        ("c#", {"mixed"}),
        ("snake_case", {"en"}),
        ("case", {"en"}),
        ("my_vec", {"code"}),
        ("std::vector", {"code"}),
        ("node.js", {"code"}),
        ("$5", {"code"}),
        ("50%", {"code"}),
        ("北", {"zh"}),
        ("门", {"zh"}),
        ("北京", {"zh"}),
        ("京天", {"zh"}),
        ("爱北京天安", {"zh"}),
        ("京北", set()),
        ("天安门，用", {"zh"}),
        ("用Python写", {"zh"}),
        ("python写代", {"zh"}),
        ("用 写", {"zh", "mixed"}),
        ("“天安门”", {"zh"}),
        ("写 C++", {"mixed"}),
        ("100元", {"mixed"}),
        ("👍", {"emoji"}),
        ("👨‍👩‍👧", {"emoji"}),
        ("🇨🇳", {"emoji"}),
        ("cafe", {"accents"}),
        ("DÉJÀ", {"accents"}),
        ("strasse", {"accents"}),
        ("full", {"accents"}),
        ("fine", {"accents"}),
        ("京タワ", {"japanese"}),
        ("세계", {"korean"}),
        ("하세", {"korean"}),
        ("旅行", {"title of t"}),
        ("travels", {"title of t"}),
        ("templates role:assistant", {"a"}),
        ("templates role:user", {"en"}),
        ("templates model:q4_k", {"a"}),
        ("templates model:72b", set()),
        ("templates tag:WORK", {"a"}),
        ('templates tag:"two words"', {"a"}),
        ("templates in:t", {"a"}),
        ("templates in:x", set()),
        ("templates after:1970-01-03", set()),
        ("templates before:1970-01-03", {"en", "a"}),
        ("role:assistant", {"a"}),
        ("in:t", {"q", "a"}),
        ("before:soon", set()),
        ("role:nobody", set()),
        ("", set()),
        ('"', set()),
        ("...", set()),
    ],
)
def test_finds(store: Store, typed: str, expected: set[str]) -> None:
    assert ids(store.search.find(typed)) == expected


@pytest.mark.parametrize("name", ["zh", "japanese", "korean"])
def test_every_substring_of_an_unspaced_text(store: Store, name: str) -> None:
    for run in TEXTS[name].replace("，", " ").replace("。", " ").replace("Python", " ").split():
        for start in range(len(run)):
            for end in range(start + 1, len(run) + 1):
                assert name in ids(store.search.find(run[start:end])), run[start:end]


@settings(max_examples=300, deadline=None)
@given(
    typed=st.text(max_size=40) | st.from_regex(r'([a-z]{0,3}["“”:*^(){}+_ -]|role:|in:|before:|北|NOT |OR |NEAR\()*')
)
@example("\ud800 in:\ud800 model:\udfff tag:\ud800")
@example('"' * 999)
@example("a " * 999)
@example("北" * 2000)
@example("after:0000 before:9999-99-99 before:9999-12-31 after:0001-01-01")
def test_nothing_typed_is_an_error(store: Store, typed: str) -> None:
    found = store.search.find(typed)
    for hit in found.hits:
        for start, end in hit.excerpt.marks:
            assert 0 <= start < end <= len(hit.excerpt.text)


@pytest.mark.parametrize(
    ("typed", "message", "marked"),
    [
        ("run", "en", ["running"]),
        ("mig", "en", ["migrations"]),
        ("c++", "en", ["C++"]),
        ("北京天", "zh", ["北京天"]),
        ("北", "zh", ["北"]),
        ("用 代码", "zh", ["用", "代码"]),
        ("cafe ferme", "accents", ["café", "fermé"]),
        ("strasse", "accents", ["Straße"]),
        ("full fine", "accents", ["ＦＵＬＬ", "ﬁne"]),
    ],
)
def test_what_was_found_is_marked(store: Store, typed: str, message: str, marked: list[str]) -> None:
    (excerpt,) = [hit.excerpt for hit in store.search.find(typed).hits if hit.message == message]
    assert [excerpt.text[start:end] for start, end in excerpt.marks] == marked


def test_excerpts_are_one_clean_line_around_the_match(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1, title="t"))
    store.add(question("q", "far away " * 100 + "\x1b[31m[bold]needle\x1b[0m\n\n\tand\u202e more " + "x" * 500))
    (hit,) = store.search.find("needle").hits
    (start, end) = hit.excerpt.marks[0]
    assert hit.excerpt.text[start:end] == "needle"
    assert not {"\x1b", "\n", "\t", "\u202e"} & set(hit.excerpt.text)
    assert hit.excerpt.text.startswith("…") and hit.excerpt.text.endswith("…") and len(hit.excerpt.text) < 250


def test_few_are_ranked_and_many_are_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MANY", 30)
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1, title="none"))
    store.add(question("m000", "needle needle needle"))
    store.add(*(question(f"m{n:03}", f"word {'and more ' * 9} {'needle' if n < 25 else ''}") for n in range(1, 100)))
    found = store.search.find("needle", 5)
    assert (found.ranked, found.messages, found.hits[0].message) == (True, 25, "m000")
    pages = [hit.message for offset in range(0, 30, 5) for hit in store.search.find("needle", 5, offset).hits]
    assert len(pages) == len(set(pages)) == 25
    found = store.search.find("word", 5)
    assert (found.ranked, found.messages) == (False, 30)
    assert [hit.message for hit in found.hits] == ["m099", "m098", "m097", "m096", "m095"]
    pages = [hit.message for offset in range(0, 100, 7) for hit in store.search.find("word", 7, offset).hits]
    assert pages == [f"m{n:03}" for n in range(99, 0, -1)]


def test_a_query_is_understood() -> None:
    query = parse_query('say "exact words" role:User model:7b tag:a tag:"b c" in:01 after:2024 role：assistant hal')
    assert query.items == ("say", "exact words", "hal") and query.open
    assert query.roles == {Role.USER, Role.ASSISTANT}
    assert (query.models, query.tags, query.sessions) == (("7b",), ("a", "b c"), ("01",))
    assert query.after is not None and query.before is None
    assert not parse_query('"hal"').open


def test_titles_are_found_by_pinyin_initials(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    (hit,) = store.search.find("bt").hits
    assert (hit.session, hit.message, hit.excerpt.text) == ("s", None, "A title 标题")
    assert [hit.excerpt.text[begin:end] for begin, end in hit.excerpt.marks] == ["标题"]
    assert not store.search.find('"bt"').hits
    assert not store.search.find("tb").hits


def reasoned(name: str, *texts: str) -> Message:
    """Return an answer with several pieces of reasoning."""
    parts: list[Part] = []
    for text in texts:
        parts += [Reasoning(text), ToolCall("c", "look", "{}")]
    return replace(full_answer(name, "", "q"), parts=(*parts, Text(f"The answer of {name}.")))


def test_reasoning_is_found_on_request_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1, title="Wondering 标题"))
    store.add(
        question("q", "I wonder"), reasoned("one", "Hm, wondering about 北京天安门"), full_answer("two", "No", "q")
    )
    assert ids(store.search.find("wondering")) == {"q", "title of s"}
    assert not store.search.find("北京").hits
    (hit,) = store.search.find("wonder in:reasoning").hits
    assert (hit.message, hit.excerpt.text) == ("one", "Hm, wondering about 北京天安门")
    assert [hit.excerpt.text[begin:end] for begin, end in hit.excerpt.marks] == ["wondering"]
    assert ids(store.search.find("in:reasoning 京天")) == ids(store.search.find("in:reasoning")) == {"one"}
    assert ids(store.search.find("wonder in:reasoning in:s role:assistant model:7b after:1970")) == {"one"}
    assert not store.search.find("wonder in:reasoning in:t").hits
    assert not store.search.find("answer in:reasoning").hits
    store.trash.remove_message("one")
    assert not store.search.find("in:reasoning wonder").hits


def test_an_answer_that_reasoned_twice_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    store.create(Session(id="s", created=1, updated=1))
    store.add(question("q", "?"), *(reasoned(f"a{n}", "needle first", "needle again") for n in range(9)))
    for many in (search.MANY, 5):
        monkeypatch.setattr(search, "MANY", many)
        pages = [hit.message for start in (0, 4, 8) for hit in store.search.find("in:reasoning needle", 4, start).hits]
        assert pages == [f"a{n}" for n in range(8, -1, -1)]
    (hit,) = store.search.find("in:reasoning again", 1).hits
    assert [hit.excerpt.text[begin:end] for begin, end in hit.excerpt.marks] == ["again"]
