"""Two tools: the date and the time, here or in a named place, and the days between two dates. No network.

Time zones come from the system's database or the package `tzdata`. A place is a zone, the city that a zone is named
after, or one of the large cities and countries below, which have no zone of their own.

They are two tools because small models fill in every argument that there is: asked for the day of the week, one takes
any date for today's. For the same reason descriptions have no examples, which would be taken for values.
"""

import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from types import MappingProxyType
from typing import Annotated

from msgspec import Meta

from qwenchat.chat.tools import ToolSpec
from qwenchat.text.safe import clean_line
from qwenchat.tools.arguments import Arguments, given, schema_of
from qwenchat.tools.tool import ToolError

_PLACES: Mapping[str, str] = MappingProxyType(
    {
        "Asia/Shanghai": "beijing shenzhen guangzhou hangzhou nanjing chengdu wuhan xian china 北京 上海 深圳 广州 "
        "杭州 南京 成都 武汉 西安 重庆 天津 中国",
        "Asia/Hong_Kong": "香港",
        "Asia/Macau": "澳门",
        "Asia/Taipei": "taiwan 台北",
        "Asia/Tokyo": "osaka kyoto japan 东京 大阪 京都 日本",
        "Asia/Seoul": "busan korea south_korea 首尔 韩国",
        "Asia/Singapore": "新加坡",
        "Asia/Bangkok": "thailand 曼谷 泰国",
        "Asia/Ho_Chi_Minh": "hanoi vietnam 河内 越南",
        "Asia/Kolkata": "delhi new_delhi mumbai bangalore chennai hyderabad india 德里 新德里 孟买 印度",
        "Asia/Dubai": "abu_dhabi 迪拜 阿布扎比",
        "Europe/London": "england uk britain edinburgh manchester 伦敦 英国",
        "Europe/Paris": "france lyon 巴黎 法国",
        "Europe/Berlin": "germany munich frankfurt hamburg cologne 柏林 慕尼黑 法兰克福 德国",
        "Europe/Madrid": "spain barcelona 马德里 巴塞罗那 西班牙",
        "Europe/Rome": "italy milan 罗马 米兰 意大利",
        "Europe/Zurich": "switzerland geneva bern 苏黎世 日内瓦 瑞士",
        "Europe/Amsterdam": "netherlands 阿姆斯特丹 荷兰",
        "Europe/Moscow": "st_petersburg saint_petersburg 莫斯科",
        "Africa/Cairo": "egypt 开罗 埃及",
        "America/New_York": "boston washington philadelphia miami atlanta new_york_city nyc 纽约 波士顿 华盛顿",
        "America/Chicago": "houston dallas austin 芝加哥 休斯敦",
        "America/Los_Angeles": "san_francisco seattle san_diego las_vegas california la 洛杉矶 旧金山 西雅图",
        "America/Toronto": "ottawa montreal 多伦多 蒙特利尔",
        "America/Vancouver": "温哥华",
        "America/Sao_Paulo": "rio_de_janeiro brasilia 圣保罗 里约热内卢",
        "Australia/Sydney": "canberra 悉尼 堪培拉",
        "Australia/Melbourne": "墨尔本",
        "Pacific/Auckland": "wellington 奥克兰",
    }
)
"""Places that the database does not name so, by their zones."""
_DAYS = (
    *(("Monday", "星期一"), ("Tuesday", "星期二"), ("Wednesday", "星期三"), ("Thursday", "星期四")),
    *(("Friday", "星期五"), ("Saturday", "星期六"), ("Sunday", "星期日")),
)
"""Days of the week in both languages: a small model translates none for certain."""


_HERE = ("", "here", "local", "这里", "本地")
_TODAY = ("today", "now", "今天", "现在")
_DATE = re.compile(r"\s*(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})(?!\d)", re.ASCII)
_OFFSET = re.compile(r"(?:utc|gmt)([+-]\d{1,2})(?::?([0-5]\d))?", re.ASCII)


class _PlaceArguments(Arguments, frozen=True):
    place: Annotated[str, Meta(description="The city; empty: here")] = ""


class _Dates(Arguments, frozen=True):
    start: Annotated[str, Meta(description="The first date, as YYYY-MM-DD, or today")]
    end: Annotated[str, Meta(description="The second date, as YYYY-MM-DD, or today")]


def _here(zone: tzinfo | None) -> datetime:
    """Return the time in a zone, or in this machine's."""
    return datetime.now(UTC).astimezone(zone)


@dataclass(frozen=True)
class DateTime:
    """The tool `date_time`."""

    now: Callable[[tzinfo | None], datetime] = _here
    """Returns the time in a zone; None is this machine's."""
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        return ToolSpec(
            name="date_time",
            description="Get the time, the date and the day of the week now, in any city.",
            parameters=schema_of(_PlaceArguments),
        )

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return the date and the time in a sentence. Raises ToolError."""
        place = given(arguments, _PlaceArguments).place
        now = self.now(None if _key(place) in _HERE else self._zone(place))
        return f"It is {_named_day(now.date())}, {now:%H:%M:%S} in {_named_zone(now)}."

    @cached_property
    def _zones(self) -> dict[str, str]:
        """The zones by name and by city, in lower case."""
        names = sorted(zoneinfo.available_timezones())
        cities = {_key(name.rpartition("/")[2]): name for name in names if not name.startswith("Etc/")}
        elsewhere = {place: zone for zone, places in _PLACES.items() for place in places.split()}
        return {**cities, **{_key(name): name for name in names}, **elsewhere}

    def _zone(self, place: str) -> tzinfo:
        """Return the zone of a place. Raises ToolError."""
        if (offset := _OFFSET.fullmatch(_key(place))) and abs(hours := int(offset[1])) <= 14:
            minutes = int(offset[2] or 0) * (-1 if hours < 0 else 1)
            return timezone(timedelta(hours=hours, minutes=minutes))
        for wanted in (place, place.partition(",")[0], place.partition("，")[0]):
            if name := self._zones.get(_key(wanted)):
                return zoneinfo.ZoneInfo(name)
        raise ToolError(
            f'No time zone is known for "{clean_line(place)}". Give a large city near it, or a zone such as Asia/Tokyo.'
        )


@dataclass(frozen=True, slots=True)
class DaysBetween:
    """The tool `days_between`."""

    now: Callable[[tzinfo | None], datetime] = _here
    writes = False

    @property
    def spec(self) -> ToolSpec:
        """Its description for the model."""
        description = "Count the days from one date to another."
        return ToolSpec(name="days_between", description=description, parameters=schema_of(_Dates))

    async def run(self, arguments: Mapping[str, object]) -> str:
        """Return the number of days in a sentence. Raises ToolError."""
        wanted, today = given(arguments, _Dates), self.now(None).date()
        start, end = _date(wanted.start, today), _date(wanted.end, today)
        return f"From {_named_day(start)} to {_named_day(end)}: {(end - start).days:,} days."


def _key(place: str) -> str:
    return re.sub(r"[\s_]+", "_", place.strip().lower().replace("’", "'")).removesuffix("市")


def _date(text: str, today: date) -> date:
    """Return a date from what a model wrote. Raises ToolError."""
    if _key(text) in _TODAY:
        return today
    try:
        found = _DATE.match(text)
        year, month, day = map(int, found.groups() if found else ())
        return date(year, month, day)
    except ValueError:
        raise ToolError(f'"{clean_line(text)}" is not a date. Write dates as YYYY-MM-DD.') from None


def _named_day(day: date) -> str:
    english, chinese = _DAYS[day.weekday()]
    return f"{english} ({chinese}), {day.isoformat()}"


def _named_zone(now: datetime) -> str:
    offset = now.isoformat()[-6:]
    return f"{now.tzinfo.key} (UTC{offset})" if isinstance(now.tzinfo, zoneinfo.ZoneInfo) else f"UTC{offset}"
