"""The date and the time, by a clock that the test sets."""

import json
from datetime import UTC, datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.tools.builtin.date_time import DateTime, DaysBetween
from qwenchat.tools.tool import ToolError


def at_noon(zone: tzinfo | None) -> datetime:
    return datetime(2026, 7, 1, 12, tzinfo=UTC).astimezone(zone or UTC)


TOOL = DateTime(at_noon)


@pytest.mark.parametrize("place", ["", "here", " Local "])
async def test_here_and_now(place: str) -> None:
    assert await TOOL.run({"place": place}) == "It is Wednesday (星期三), 2026-07-01, 12:00:00 in UTC+00:00."


@pytest.mark.parametrize(
    ("place", "words"),
    [
        *(("Tokyo", "21:00:00 in Asia/Tokyo (UTC+09:00)"), ("asia/tokyo", "21:00:00"), ("东京", "21:00:00")),
        *(("New York", "08:00:00 in America/New_York (UTC-04:00)"), ("Paris, France", "Europe/Paris (UTC+02:00)")),
        *(("北京市", "20:00:00 in Asia/Shanghai"), ("SAN FRANCISCO", "05:00:00"), ("Kathmandu", "(UTC+05:45)")),
        *(("UTC", "12:00:00"), ("UTC+8", "20:00:00 in UTC+08:00"), ("gmt-3:30", "08:30:00")),
        ("Auckland", "Thursday (星期四), 2026-07-02, 00:00:00"),
    ],
)
async def test_the_time_elsewhere(place: str, words: str) -> None:
    assert words in await TOOL.run({"place": place})


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2024-02-29", "today", "From Thursday (星期四), 2024-02-29 to Wednesday (星期三), 2026-07-01: 853 days."),
        ("今天", "2026年12月25日", "to Friday (星期五), 2026-12-25: 177 days."),
        ("2026/1/1", "2027-01-01T00:00", "to Friday (星期五), 2027-01-01: 365 days."),
        ("2026-07-02", "now", "to Wednesday (星期三), 2026-07-01: -1 days."),
    ],
)
async def test_days_between_dates(start: str, end: str, words: str) -> None:
    assert (await DaysBetween(at_noon).run({"start": start, "end": end})).endswith(words)


@pytest.mark.parametrize("place", ["Atlantis", "../../etc/passwd", "UTC+99"])
async def test_a_place_that_is_not_known_is_refused_in_words(place: str) -> None:
    with pytest.raises(ToolError, match="No time zone is known"):
        await TOOL.run({"place": place})


@pytest.mark.parametrize("day", ["2026-02-30", "tomorrow", "YYYY-MM-DD", "", "99999-01-01"])
async def test_what_is_no_date_is_refused_in_words(day: str) -> None:
    with pytest.raises(ToolError, match="is not a date"):
        await DaysBetween(at_noon).run({"start": day, "end": "today"})


@given(st.text(max_size=20))
async def test_any_place_is_known_or_refused(place: str) -> None:
    try:
        assert (await TOOL.run({"place": place})).startswith("It is ")
    except ToolError as error:
        assert "No time zone" in error.reason


async def test_the_clock_is_that_of_this_machine() -> None:
    before = datetime.now(UTC)
    said = await DateTime().run({"place": "UTC"})
    assert f"{before:%Y-%m-%d}" in said or f"{datetime.now(UTC):%Y-%m-%d}" in said


def test_the_place_may_be_left_out() -> None:
    schema = json.loads(TOOL.spec.parameters)
    assert schema["properties"].keys() == {"place"} and "required" not in schema
