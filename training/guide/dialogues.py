"""Draws conversations for training: most have one question, some earlier turns, under many system prompts."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwenchat.chat.prompt import Turn
from training.guide.corpus import DEFAULT_SYSTEM, FOLDER, LANGUAGES, OUTSIDE, Wording, answers, framed, frames, plain
from training.guide.noise import noisy

_HERE = re.compile(
    r"qwenchat|program|app|here|\bkey|command|button|menu|flag|程序|软件|这里|工具|应用|命令|按键|按哪|哪个键|菜单|设置"
)
"""Frames that mention this program do not fit questions outside it."""
LATER_TURN_SHARE = 0.15
OTHER_SYSTEM_SHARE = 0.3
FRAMED_SHARE, WRAPPED_SHARE = 0.85, 0.12


@dataclass
class Dialogues:
    """Draws conversations from wordings."""

    wordings: Sequence[Wording]
    chance: random.Random
    answers: dict[str, dict[str, str]] = field(default_factory=answers)
    avoided: frozenset[str] = frozenset()
    """Questions, in the form of `plain`, that must not be trained on."""
    outside_share: float = 0.4
    """How often a question is one that must be refused."""
    favoured: frozenset[str] = frozenset()
    """Topics that are asked three times as often."""

    def __post_init__(self) -> None:
        self._by_topic: dict[tuple[str, str], list[Wording]] = defaultdict(list)
        for wording in self.wordings:
            self._by_topic[wording.language, wording.topic].append(wording)
        self._topics = {
            language: [topic for of, topic in self._by_topic if of == language and topic != OUTSIDE]
            for language in LANGUAGES
        }
        self._weights = {
            language: [
                len(self._by_topic[language, topic]) ** 0.5 * (3 if topic in self.favoured else 1)
                for topic in self._topics[language]
            ]
            for language in LANGUAGES
        }
        every = {language: frames("frames", language) for language in LANGUAGES}
        self._frames = {(language, False): every[language] for language in LANGUAGES}
        self._frames |= {
            (language, True): [one for one in every[language] if not _HERE.search(one)] for language in LANGUAGES
        }
        self._wraps = {language: frames("wrap", language) for language in LANGUAGES}
        self._systems = (FOLDER / "systems.txt").read_text("utf-8").splitlines()

    def draw(self) -> list[Turn]:
        """Return turns, system prompt first, that end with an answer."""
        turns = [Turn("system", self._system())]
        past = self.chance.choice((1, 1, 1, 2, 2, 3)) if self.chance.random() < LATER_TURN_SHARE else 0
        language = self.chance.choice(LANGUAGES)
        for _turn in range(past + 1):
            if self.chance.random() < 0.1:
                language = self.chance.choice(LANGUAGES)
            topic = self._topic(language)
            wording = self.chance.choice(self._by_topic[language, topic])
            turns.append(Turn("user", self.question(wording)))
            turns.append(Turn("assistant", self.answers[topic][language]))
        return turns

    def question(self, wording: Wording) -> str:
        """Return a wording as a user may type it, or another of the same topic where that one must be avoided."""
        while plain(text := self._typed(wording)) in self.avoided:
            wording = self.chance.choice(self._by_topic[wording.language, wording.topic])
        return text

    def _typed(self, wording: Wording) -> str:
        text = wording.drawn(self.chance)
        if wording.is_phrase and self.chance.random() < FRAMED_SHARE:
            text = framed(self.chance.choice(self._frames[wording.language, wording.topic == OUTSIDE]), text)
        if self.chance.random() < WRAPPED_SHARE:
            text = framed(self.chance.choice(self._wraps[wording.language]), text)
        return noisy(text, wording.language, self.chance)

    def _topic(self, language: str) -> str:
        if self.chance.random() < self.outside_share:
            return OUTSIDE
        return self.chance.choices(self._topics[language], self._weights[language])[0]

    def _system(self) -> str:
        lot = self.chance.random()
        if lot > OTHER_SYSTEM_SHARE:
            return DEFAULT_SYSTEM
        if lot > OTHER_SYSTEM_SHARE / 3:
            return self.chance.choice(self._systems)
        return self.question(self.chance.choice(self.wordings))  # any words at all
