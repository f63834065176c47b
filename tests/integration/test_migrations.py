"""Every older database is migrated, with a copy of the old one beside it; a newer one is not changed."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from qwenchat.chat.message import Status
from qwenchat.errors import StoreError
from qwenchat.sessions.recover import recover
from qwenchat.sessions.rows import SCHEMA
from qwenchat.storage import migrate
from qwenchat.storage.migrate import Schema
from tests.fakes.stores import database_in, filled, full_answer, full_session, store_in

SCHEMAS = Path(__file__).parent / "schemas"
NEWEST = len(SCHEMA.migrations())


def old_database(folder: Path, schema: str) -> Path:
    file = database_in(folder)
    file.parent.mkdir(mode=0o700)
    with sqlite3.connect(file) as plain:
        plain.execute("PRAGMA page_size = 8192")  # as all our databases have it
        plain.executescript((SCHEMAS / schema).read_text("utf-8"))
    plain.close()
    return file


def schema_of(file: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(file) as plain:
        return plain.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_there_is_a_fixture_of_every_older_schema() -> None:
    assert [path.name for path in sorted(SCHEMAS.iterdir())] == [f"{n:04}.sql" for n in range(1, NEWEST)]


@pytest.mark.parametrize("schema", [path.name for path in sorted(SCHEMAS.iterdir())])
def test_from_an_older_schema(tmp_path: Path, schema: str) -> None:
    file = old_database(tmp_path, schema)
    store = store_in(tmp_path)
    assert store.session("s") == replace(
        full_session(), leaf="q2", updated=5, context=None, tools=None, collections=(), level=None
    )
    assert store.branch("a2")[1] == full_answer("a2", "It has templates.", "q1")
    assert store.branch("a2")[0].attachments[0].data == b"\x00\xffnotes"
    begun = store.branch("t2")[-1]
    assert (begun.text, begun.token_ids, begun.status) == ("It began", (1, 2, 3), Status.INTERRUPTED)
    assert [hit.message for hit in store.search.find("北京").hits] == ["q1"]
    assert [hit.message for hit in store.search.find("template").hits] == ["a2"]
    assert [hit.message for hit in store.search.find("began").hits] == ["t2"]
    assert [hit.session for hit in store.search.find("标题").hits] == ["s"]
    assert not store.search.find("classes").hits  # that one was removed
    store.close()
    blank = tmp_path / "blank.db"
    migrate.migrate(blank, SCHEMA)
    assert schema_of(file) == schema_of(blank)
    (copy,) = migrate.safety_copies(file)
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (int(schema[:4]),)
        assert plain.execute("SELECT count(*) FROM messages").fetchone() == (6,)


@pytest.mark.parametrize("schema", [path.name for path in sorted(SCHEMAS.iterdir())])
def test_a_damaged_database_of_an_older_schema_is_recovered(tmp_path: Path, schema: str) -> None:
    file = old_database(tmp_path, schema)
    assert recover(file) is None
    with sqlite3.connect(file) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.close()
    data = bytearray(file.read_bytes())
    data[:8192] = bytes(8192)
    file.write_bytes(data)
    result = recover(file)
    assert result and (result.sessions, result.messages, result.attachments) == (2, 6, 2)
    store = store_in(tmp_path)
    assert store.branch("a2")[1] == full_answer("a2", "It has templates.", "q1")
    begun = store.branch("t2")[-1]
    assert (begun.text, begun.token_ids, begun.status) == ("It began", (1, 2, 3), Status.INTERRUPTED)
    store.close()


def test_nothing_happens_twice(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.close()
    before = database_in(tmp_path).read_bytes()
    migrate.migrate(database_in(tmp_path), SCHEMA)
    assert database_in(tmp_path).read_bytes() == before
    assert not migrate.safety_copies(database_in(tmp_path))


def test_a_newer_database_is_not_touched(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    filled(store)
    store.close()
    file = database_in(tmp_path)
    with sqlite3.connect(file) as plain:
        plain.execute(f"PRAGMA user_version = {NEWEST + 1}")
    plain.close()
    before = file.read_bytes(), file.stat().st_mtime_ns
    with pytest.raises(StoreError, match="newer"):
        store_in(tmp_path)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    file = database_in(tmp_path)
    file.parent.mkdir()
    with sqlite3.connect(file) as plain:
        plain.execute("CREATE TABLE recipes (text)")
    plain.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        store_in(tmp_path)
    assert file.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = old_database(tmp_path, "0001.sql")
    before = schema_of(file)
    steps = [*SCHEMA.migrations()[:1], "CREATE TABLE half (n); INSERT INTO nowhere VALUES (1);"]
    monkeypatch.setattr(Schema, "migrations", lambda _schema: steps)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate.migrate(file, SCHEMA)
    assert schema_of(file) == before
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (1,)
