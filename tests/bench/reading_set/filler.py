"""Prose without end, from a grammar and a seed: what surrounds the facts that a question is about.

It speaks of the same kind of things as the facts (people, ships, work, weather, numbers) without repeating one of them.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence

_NUMBER = "number"


def _listed(text: str) -> Sequence[str]:
    """Return what is listed in a text, with the commas of either language."""
    return re.split(", |、", text)


_ENGLISH: Mapping[str, Sequence[str]] = {
    "person": _listed(
        "Old Hamish Brae, Nora Fenwick, the younger Tollard, Mistress Iveagh, Captain Odd Larsen, the cooper "
        "Wynn, Sister Benedicta, the clerk Mr Ashdown, Jonas Reek, Ada Pomfret, the carter Sully, Doctor "
        "Mellish"
    ),
    "thing": _listed(
        "barrels of pitch, coils of rope, sacks of oats, panes of glass, bundles of slate, crates of "
        "candles, lengths of oak, bolts of canvas, baskets of eels, kegs of nails, loads of peat, boxes of "
        "tallow"
    ),
    "place": _listed(
        "the lower quay, the smithy, the net loft, the customs shed, the chapel yard, the rope walk, the "
        "cooperage, the upper store, the weigh house, the mill lane, the ferry steps, the counting room"
    ),
    "mood": _listed("calm, wet, bitterly cold, unusually mild, windy, hazy, bright, thundery"),
    "month": _listed("January, February, April, May, June, July, August, September, November, December"),
    "sentence": (
        "On the {number} of {month} {person} brought {number} {thing} to {place}.",
        "The weather was {mood}, and nothing was done before noon except the counting of {thing}.",
        "{person} asked for {number} more {thing} and was given half of them.",
        "A dispute between {person} and {person} about the use of {place} was put off until {month}.",
        "The accounts show {number} crowns for repairs to {place}, of which {number} were never paid.",
        "{person} wrote that {place} had not been so full since the {mood} {month} of some years before.",
        "Of the {number} {thing} that had been promised, {number} arrived in good order.",
        "It was agreed that {place} should be swept every {number} days, and that {person} should see to it.",
        "In {month} the wages were raised by {number} in the hundred, which pleased nobody but {person}.",
        "A letter to {person} came back unopened after {number} days.",
        "The roof of {place} leaked again, so the {thing} were moved to {place}.",
        "{person} and {number} helpers spent a {mood} week on the stairs behind {place}.",
        "Those who remember that {month} say that {person} never spoke of {place} again.",
        "There were {number} {thing} left over, and they were sold below their price.",
    ),
    "heading": ("Notes for {month}", "About {place}", "A {mood} week", "What {person} did", "Accounts of {month}"),
}
_CHINESE: Mapping[str, Sequence[str]] = {
    "person": _listed(
        "老余头、何秀才、柳嫂子、罗把总、账房宋先生、木匠阿笙、邹二姐、更夫老丁、鲁班头、庞大夫、小学徒阿全、袁奶奶"
    ),
    "thing": _listed("桐油、麻绳、糙米、窗纸、青瓦、蜡烛、杉木、粗布、干菇、铁钉、木炭、茶饼"),
    "unit": _listed("担、捆、箱、袋、车、筐"),
    "place": _listed("南码头、铁匠铺、晒网场、税房、后山庙、缆绳坊、木桶作坊、上仓、过秤间、磨坊巷、河埠头、账房"),
    "mood": _listed("闷热、阴冷、晴朗、多雾、大风、干燥、连雨、和暖"),
    "month": _listed("正月、二月、三月、五月、七月、九月、十月、冬月、腊月"),
    "sentence": (
        "{month}初，{person}把{number}{unit}{thing}送到了{place}。",
        "那几天天气{mood}，上午除了清点{thing}以外什么也没有做。",
        "{person}想再要{number}{unit}{thing}，只得到了一半。",
        "{person}和{person}为{place}的用处争了起来，说好到{month}再议。",
        "账上记着修{place}用去{number}两，其中{number}两一直没有付清。",
        "{person}写道，自从那个{mood}的{month}以来，{place}还没有这样热闹过。",
        "原先答应的{number}{unit}{thing}，完好运到的有{number}{unit}。",
        "大家商定{place}每隔{number}天打扫一次，由{person}照看。",
        "{month}里工钱涨了{number}成，除了{person}没有人满意。",
        "寄给{person}的信过了{number}天原样退了回来。",
        "{place}的屋顶又漏了，{thing}只好搬到{place}去。",
        "{person}带着{number}个帮手，在{mood}的一周里修好了{place}后面的台阶。",
        "记得那年{month}的人说，{person}后来再也没有提起{place}。",
        "还剩下{number}{unit}{thing}，后来低价卖掉了。",
    ),
    "heading": ("{month}杂记", "{place}纪事", "{person}的事", "{mood}的一旬", "{month}账目"),
}
_GRAMMARS = {"en": _ENGLISH, "zh": _CHINESE}


def paragraphs(language: str, seed: int) -> Iterator[str]:
    """Yield paragraphs without end, `en` or `zh`; some begin with a heading."""
    grammar, chance = _GRAMMARS[language], random.Random(seed)
    joint = " " if language == "en" else ""
    while True:
        sentences = (_filled("sentence", grammar, chance) for _place in range(chance.randint(4, 8)))
        text = joint.join(_capitalised(sentence) for sentence in sentences)
        heading = f"## {_filled('heading', grammar, chance)}\n\n" if chance.random() < 0.2 else ""
        yield heading + text


def _filled(name: str, grammar: Mapping[str, Sequence[str]], chance: random.Random) -> str:
    """Return one of the texts of that name, with the names in it filled in."""
    if name == _NUMBER:
        return str(chance.randint(2, 98))
    text = chance.choice(grammar[name])
    while "{" in text:
        before, _brace, rest = text.partition("{")
        inner, _brace, after = rest.partition("}")
        text = before + _filled(inner, grammar, chance) + after
    return text


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
