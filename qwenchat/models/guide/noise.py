"""How people really type: case, punctuation, slips of the finger. A question keeps its meaning."""

import random
from collections.abc import Callable

_NEIGHBOURS = {
    key: row[max(0, at - 1) : at + 2].replace(key, "")
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, key in enumerate(row)
}
_HOMOPHONES = {
    "的": "得地", "得": "的", "在": "再", "再": "在", "么": "嘛", "吗": "嘛么", "做": "作", "作": "做", "会话": "回话",
    "模型": "模形", "怎么": "咋么", "下载": "下栽", "删除": "山除", "导出": "倒出", "它": "他", "哪": "那", "啊": "阿",
}  # fmt: skip


def noisy(text: str, language: str, chance: random.Random) -> str:
    """Return a question as someone in a hurry, or on a phone, may type it; most stay as they are."""
    if chance.random() < 0.25:
        text = _slipped(text, chance) if language == "en" else _misspelt(text, chance)
    text = _cased(text, chance)
    return text + _ending(text, language, chance)


def _slipped(text: str, chance: random.Random) -> str:
    """Swap, double, drop or miss one or two letters of longer words."""
    for _slip in range(1 + (chance.random() < 0.3)):
        words = text.split(" ")
        long = [at for at, word in enumerate(words) if len(word) > 3 and word.isalpha()]
        if not long:
            return text
        at = chance.choice(long)
        words[at] = chance.choice(_SLIPS)(words[at], chance.randrange(1, len(words[at]) - 1), chance)
        text = " ".join(words)
    return text


_SLIPS: tuple[Callable[[str, int, random.Random], str], ...] = (
    lambda word, at, _chance: word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    lambda word, at, _chance: word[:at] + word[at + 1 :],
    lambda word, at, _chance: word[:at] + word[at] + word[at:],
    lambda word, at, chance: word[:at] + chance.choice(_NEIGHBOURS.get(word[at], word[at])) + word[at + 1 :],
)


def _misspelt(text: str, chance: random.Random) -> str:
    """Take a character that sounds alike, or leave one out."""
    found = [word for word in _HOMOPHONES if word in text]
    if found and chance.random() < 0.7:
        word = chance.choice(found)
        other = _HOMOPHONES[word]
        return text.replace(word, other if len(word) > 1 else chance.choice(other), 1)
    at = chance.randrange(len(text))
    return text if len(text) < 6 or text[at].isascii() else text[:at] + text[at + 1 :]


def _cased(text: str, chance: random.Random) -> str:
    lot = chance.random()
    if lot < 0.45:
        return text[:1].upper() + text[1:]
    return text.upper() if lot < 0.47 else text.title() if lot < 0.48 else text


def _ending(text: str, language: str, chance: random.Random) -> str:
    if text[-1:] in "?!.？！。…":
        return ""
    endings = (
        ("", "?", "?", ".", "??", " ?", "!") if language == "en" else ("", "？", "？", "?", "。", "！", "呢？", "啊")
    )
    return chance.choice(endings) if chance.random() < 0.7 else ""
