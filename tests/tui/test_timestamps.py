"""The time beside each message: how it is written, and that it can be hidden."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from qwenchat.i18n import use_language
from qwenchat.tui.transcript import labels
from tests.tui.chatting import chatting
from tests.tui.screens import TranscriptApp, talk, until

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def written(when: datetime) -> str:
    return labels.moment(int(when.timestamp() * 1000), NOON.timestamp())


def test_today_is_a_time_alone_and_any_other_day_has_its_date() -> None:
    assert written(NOON.replace(hour=9, minute=5)) == "09:05"
    assert written(NOON.replace(day=28)) == "28 Nov 2026, 12:00"
    assert written(NOON.replace(year=2025)) == "29 Nov 2025, 12:00"


def test_chinese_writes_a_date_as_chinese_does() -> None:
    use_language("zh_CN")
    assert written(NOON.replace(day=28)) == "2026年11月28日 12:00"


async def test_each_message_has_its_time_until_the_action_hides_it_for_all_chats_to_come() -> None:
    async with chatting() as it:
        await it.ask("Why?")

        def timed() -> list[bool]:
            lines = [it.transcript.render_line(y).text for y in range(it.transcript.size.height)]
            return [
                any(character.isdigit() for character in line) for line in lines if line.strip().startswith(("❯", "✦"))
            ]

        assert timed() == [True, True]
        await it.do("timestamps")
        await until(lambda: timed() == [False, False])
        assert not it.app.program.settings.timestamps
        await it.do("timestamps")
        await until(lambda: timed() == [True, True])
        assert it.app.program.settings.timestamps


async def test_hiding_times_leaves_the_reader_where_they_are() -> None:
    app = TranscriptApp(talk(40))
    async with app.run_test(size=(12, 10)) as pilot:
        app.transcript.select("m20")
        await pilot.pause()
        before = app.rows[0], app.transcript.column.total
        app.transcript.timestamps = False
        await pilot.pause()
        assert app.rows[0] == before[0]
        assert app.transcript.column.total < before[1]
