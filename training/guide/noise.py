"""Makes questions look as typed by users: synonyms, case, punctuation, typing errors. The meaning does not change."""

import random
import re
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

_SAME = {
    "en": (
        "chat|conversation|session|discussion|dialogue", "delete|remove|erase|get rid of|wipe", "answer|reply|response",
        "chats|conversations|sessions|discussions", "deleted|removed|erased|wiped", "folder|directory", "find|locate",
        "laptop|computer|machine|pc", "stop|cancel|abort|interrupt|halt", "quit|exit|close|leave", "save|store|keep",
        "program|app|application|software|tool", "settings|preferences|options|configuration", "show|display",
        "key|shortcut|hotkey", "change|modify|alter", "slow|sluggish", "fast|quick", "memory|ram", "download|fetch",
        "big|large|huge", "small|little|tiny", "colours|colors", "picture|image", "error|failure", "start|launch",
        "continue|go on|carry on|resume", "copy|duplicate", "undo|take back|revert", "i want to|i'd like to|i need to",
    ),
    "zh": (
        "会话|对话|聊天", "删除|删掉|移除|清除", "回答|回复|答案", "文件夹|目录", "电脑|机器|笔记本", "退出|关闭",
        "停止|中断|打断|停下", "修改|更改|改变", "查找|搜索|找到", "保存|存下", "快捷键|按键|热键", "设置|配置|选项",
        "程序|软件|应用", "报错|出错", "重命名|改名", "显示|查看", "继续|接着", "撤销|撤回|恢复", "图片|图像",
        "复制|拷贝", "想要|需要|希望", "怎么|如何|怎样|咋", "速度慢|很慢|卡", "提问|问题", "历史|记录",
    ),
}  # fmt: skip
"""Groups of words that can replace one another in any question."""
_WORDS = {"en": re.compile(r"\b(" + "|".join(_SAME["en"]) + r")\b"), "zh": re.compile("|".join(_SAME["zh"]))}


def noisy(text: str, language: str, chance: random.Random) -> str:
    """Return a question as someone in a hurry, or on a phone, may type it; most do not change."""
    if chance.random() < 0.2:
        text = _in_other_words(text, language, chance)
    if chance.random() < 0.25:
        text = _slipped(text, chance) if language == "en" else _misspelt(text, chance)
    text = _cased(text, chance)
    return text + _ending(text, language, chance)


def _in_other_words(text: str, language: str, chance: random.Random) -> str:
    """Replace one word by another of its group."""
    found = list(_WORDS[language].finditer(text))
    if not found:
        return text
    at = chance.choice(found)
    group = next(words for group in _SAME[language] if at[0] in (words := group.split("|")))
    return text[: at.start()] + chance.choice([word for word in group if word != at[0]]) + text[at.end() :]


def _slipped(text: str, chance: random.Random) -> str:
    """Swap, double, drop or replace one or two letters of longer words."""
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
    """Replace a character by one that sounds the same, or leave one out."""
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
