"""What was made of a chat's documents goes with the chat, whoever deletes it."""

from pathlib import Path

import pytest

from qwenchat.documents.document import Document
from qwenchat.documents.index import chat_owner, collection_owner
from qwenchat.runtime.program import Program
from qwenchat.sessions.store import Store
from tests.fakes.stores import full_session

DOCUMENT = Document(name="plan.txt", media_type="text/plain", text="The zeppelin leaves at noon.")


@pytest.fixture
def program() -> Program:
    """A program with a chat whose document is indexed."""
    made = Program.here()
    made.store.create(full_session())
    made.documents.add(chat_owner("s"), [DOCUMENT])
    return made


def written(program: Program) -> bytes:
    return b"".join(file.read_bytes() for file in program.paths.data.glob("documents.db*"))


def test_the_trash_keeps_them_until_it_is_emptied(program: Program) -> None:
    program.store.trash.put("s")
    assert program.documents.owners() == [chat_owner("s")]
    program.store.trash.delete_forever("s")
    assert program.documents.owners() == []
    assert b"zeppelin" not in written(program)
    program.close()


def test_a_program_that_has_not_opened_the_index_deletes_them_too(program: Program) -> None:
    program.close()
    other = Program.here()
    other.store.trash.delete_forever("s")
    assert b"zeppelin" not in written(other)
    other.close()


def test_what_another_version_left_is_found_later(program: Program, tmp_path: Path) -> None:
    program.documents.add(collection_owner("gone"), [DOCUMENT])
    program.collections.put("here", [tmp_path])
    program.documents.add(collection_owner("here"), [DOCUMENT])
    program.close()
    store = Store(program.paths.database)  # which tells nobody what it deletes
    store.trash.delete_forever("s")
    store.close()
    other = Program.here()
    assert other.documents.owners() == [collection_owner("here")]
    other.close()
