"""The date and the time, by a clock that the test sets."""

import json
from datetime import UTC, datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenchat.tools.builtin.date_time import DateTime
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
    ("arguments", "words"),
    [
        ({"date": "2024-02-29"}, "Thursday (星期四), 2024-02-29. That was 853 days ago."),
        ({"date": "2026年12月25日"}, "Friday (星期五), 2026-12-25. That is 177 days from today."),
        ({"date": "today"}, "Wednesday (星期三), 2026-07-01. That is today."),
        ({"date": "2026/1/1", "until": "2027-01-01T00:00"}, "to Friday (星期五), 2027-01-01: 365 days."),
        ({"until": "2026-12-31"}, "From Wednesday (星期三), 2026-07-01 to Thursday (星期四), 2026-12-31: 183 days."),
        ({"place": "Auckland", "date": "今天"}, "Thursday (星期四), 2026-07-02. That is today."),
    ],
)
async def test_dates(arguments: dict[str, str], words: str) -> None:
    assert (await TOOL.run(arguments)).endswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"place": "Atlantis"}, 'No time zone is known for "Atlantis".'),
        ({"place": "../../etc/passwd"}, "No time zone is known"),
        ({"place": "UTC+99"}, "No time zone is known"),
        ({"date": "2026-02-30"}, '"2026-02-30" is not a date.'),
        ({"date": "tomorrow"}, "Write dates as 2025-12-31."),
        ({"city": "Tokyo"}, "do not follow the schema"),
    ],
)
async def test_what_is_not_known_is_refused_in_words(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ToolError) as refused:
        await TOOL.run(arguments)
    assert words in refused.value.reason


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


def test_every_argument_may_be_left_out() -> None:
    schema = json.loads(TOOL.spec.parameters)
    assert schema["properties"].keys() == {"place", "date", "until"} and not schema["required"]
