"""What is written can be read back: all of it in json, the turns in jsonl and sharegpt."""

import json
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import jsonschema
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qwenchat.chat.message import Role
from qwenchat.sessions import exporters, importers
from qwenchat.sessions.archive import Archive, normal
from qwenchat.sessions.reading_order import DialogueTurn, dialogues
from qwenchat.sessions.records import records_in
from tests.fakes.archives import MemoryArchives, archives, branching, exported, talk, with_file

SCHEMA = json.loads((Path(exporters.__file__).parent / "json.schema.json").read_text("utf-8"))


def read(text: str | bytes) -> importers.ImportedFile:
    data = text.encode() if isinstance(text, str) else text
    return importers.read(records_in(BytesIO(data), 1_700_000_000_000))


@settings(max_examples=40, deadline=None)
@given(archives("s1"), archives("s2"))
def test_json_into_an_empty_store_and_out_again_is_the_same_bytes(one: Archive, two: Archive) -> None:
    first = exported("json", one, two)
    reading = read(first)
    store = MemoryArchives()
    assert store.add_archives(reading.archives) == 2
    assert not reading.problems
    assert [store.archive("s1"), store.archive("s2")] == [normal(one), normal(two)]
    again = exported("json", store.archive("s1"), store.archive("s2"))
    assert again.encode() == first.encode()
    assert store.add_archives(read(again).archives) == 0


@settings(max_examples=40, deadline=None)
@given(archives())
def test_json_follows_its_schema(archive: Archive) -> None:
    jsonschema.validate(json.loads(exported("json", archive)), SCHEMA)


def test_the_schema_refuses_what_is_missing_or_unknown() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    changes: list[dict[str, object]] = [{"version": 1}, {"surprise": 1}, {"session": {}}]
    for change in changes:
        document = [json.loads(exported("json", branching()))[0] | change]
        assert not validator.is_valid(document), change


def test_json_is_one_line_a_message_and_safe_to_print() -> None:
    text = exported("json", talk("a\x9b\u202e\u2028b", "c"))
    assert len(text.splitlines()) == 5
    assert not set(text) & set("\x9b\u202e\u2028")
    assert read(text).archives[0].messages[0].text == "a\x9b\u202e\u2028b"


@settings(max_examples=40, deadline=None)
@given(archives(), st.booleans())
def test_jsonl_gives_the_same_turns_back(archive: Archive, all_branches: bool) -> None:
    branches = [in_turn(branch) for branch in dialogues(normal(archive), all_branches)]
    assume(not any(begins_with_reasoning(text) for branch in branches for _role, text in branch))
    text = exported("jsonl", archive, all_branches=all_branches)
    backs = read(text).archives if text else []
    found = [in_turn(branch) for back in backs for branch in dialogues(back, False)]
    assert [turns for turns in found if turns] == [turns for turns in branches if turns]  # not those of calls alone


def begins_with_reasoning(text: str) -> bool:
    """Whether import reads a text as an answer that begins with its reasoning."""
    return "<think>" in text


def in_turn(branch: list[DialogueTurn]) -> list[tuple[str, str]]:
    """Questions and answers as import makes them: those in a row joined, those of white space alone left out."""
    said = [(turn.role, turn.text) for turn in branch if turn.role != "system" and turn.text.strip()]
    return [(role, "\n\n".join(text for _role, text in run)) for role, run in groupby(said, itemgetter(0))]


def test_system_prompt_and_files_travel_in_jsonl() -> None:
    made = with_file(talk("Q", "A", system="Be brief."), "a.txt", b"attached")
    (back,) = read(exported("jsonl", made)).archives
    assert back.session.system == "Be brief."
    assert [message.text for message in back.messages] == ["a.txt\n```\nattached\n```\n\nQ", "A"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(min_size=1).filter(lambda text: text.strip() and not begins_with_reasoning(text)),
        min_size=2,
        max_size=6,
    )
)
def test_sharegpt_gives_the_same_pairs_back(words: list[str]) -> None:
    made = talk(*words, system="Be brief.")
    (back,) = read(exported("sharegpt", made)).archives
    assert [message.text for message in back.messages] == words[: len(words) // 2 * 2]
    assert [message.role for message in back.messages] == [Role.USER, Role.ASSISTANT] * (len(words) // 2)
    assert back.session.system == "Be brief."


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["jsonl", "sharegpt"]), archives())
def test_reading_twice_makes_nothing_new(name: str, archive: Archive) -> None:
    text = exported(name, archive, all_branches=True)
    store = MemoryArchives()
    if text.strip() not in ("", "[]"):
        reading = read(text)
        store.add_archives(reading.archives)
        before = dict(store.archives)
        assert store.add_archives(read(text).archives) == 0
        assert store.archives == before
