"""The facts that are hidden in a text, the question about them, and whether an answer has them.

A needle says a number of a place in a city. All three are drawn, so that no model can know them and the text does not
have them. An answer is right where it contains the number: no other model judges it.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

_DIGITS = 6
_BETWEEN = r"[,.'’_\s\u200b-]?"
"""What may stand between two digits of one number."""


@dataclass(frozen=True, slots=True)
class Needle:
    """A fact in a text."""

    sentence: str
    subject: str
    """What the number belongs to, as the question names it."""
    number: str
    """Digits."""

    def is_in(self, answer: str) -> bool:
        """Return whether an answer has the number, with or without separators, and not as a part of a longer one."""
        wanted = _BETWEEN.join(self.number)
        return re.search(rf"(?<!\d){wanted}(?!\d)", unicodedata.normalize("NFKC", answer)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wording:
    """How needles and questions are said in a language."""

    cities: tuple[str, ...]
    places: tuple[str, ...]
    subject: str
    sentences: tuple[str, ...]
    one: str
    several: str
    between: str
    last: str
    """Before the last subject of several."""


_WORDINGS = {
    "en": _Wording(
        cities=(
            *("Lima", "Oslo", "Kyoto", "Cairo", "Quito", "Hanoi", "Turin", "Porto", "Dakar", "Perth", "Bergen"),
            *("Havana", "Riga", "Lagos", "Izmir", "Leeds", "Mumbai", "Austin", "Nairobi", "Granada", "Zagreb"),
            *("Tbilisi", "Suva", "Gdansk"),
        ),
        places=("lighthouse", "library", "harbour", "observatory", "theatre", "museum", "town hall", "clock tower"),
        subject="the {place} in {city}",
        sentences=(
            "The registration number of {subject} is {number}.",
            "The number {number} is the registration number of {subject}.",
            "In the register, {subject} has the registration number {number}.",
            "Remember that {subject} has the registration number {number}.",
        ),
        one="What is the registration number of {subject}? Answer with the number only.",
        several="What are the registration numbers of {subjects}? Answer with one line each: the city and the number.",
        between=", ",
        last=" and ",
    ),
    "zh": _Wording(
        cities=(
            *("利马", "奥斯陆", "京都", "开罗", "基多", "河内", "都灵", "波尔图", "达喀尔", "珀斯", "卑尔根", "哈瓦那"),
            *("里加", "拉各斯", "成都", "利兹", "孟买", "大连", "内罗毕", "昆明", "萨格勒布", "桂林", "苏瓦", "泉州"),
        ),
        places=("灯塔", "图书馆", "港口", "天文台", "剧院", "博物馆", "市政厅", "钟楼"),
        subject="{city}的{place}",
        sentences=(
            "{subject}的登记编号是{number}。",
            "{number}是{subject}的登记编号。",
            "登记册上写着，{subject}的登记编号为{number}。",
            "请记住，{subject}的登记编号是{number}。",
        ),
        one="{subject}的登记编号是多少？只回答编号。",
        several="{subjects}的登记编号分别是多少？每行回答一个：城市和编号。",
        between="、",
        last="和",
    ),
}


def draw(seed: str, count: int, language: str, is_taken: Callable[[str], bool]) -> tuple[Needle, ...]:
    """Return needles about different cities, with different numbers, none of which `is_taken`."""
    wording, rng = _WORDINGS[language], Random(seed)
    needles: list[Needle] = []
    for city in rng.sample(wording.cities, count):
        subject = wording.subject.format(place=rng.choice(wording.places), city=city)
        number = _number(rng)
        while is_taken(number) or any(number == needle.number for needle in needles):
            number = _number(rng)
        sentence = rng.choice(wording.sentences).format(subject=subject, number=number)
        needles.append(Needle(sentence[0].upper() + sentence[1:], subject, number))
    return tuple(needles)


def _number(rng: Random) -> str:
    return str(rng.randrange(10 ** (_DIGITS - 1), 10**_DIGITS))


def question(needles: Sequence[Needle], language: str) -> str:
    """Return the question about needles."""
    wording = _WORDINGS[language]
    if len(needles) == 1:
        return wording.one.format(subject=needles[0].subject)
    *others, last = (needle.subject for needle in needles)
    return wording.several.format(subjects=wording.between.join(others) + wording.last + last)
