"""Names, values and parts of sentences are joined by the punctuation of each language."""

import contextvars
from collections.abc import Callable

from qwenchat.i18n import clauses, enumerated, labelled, use_language


def said(language: str, speak_in_it: Callable[[], str]) -> str:
    def speak() -> str:
        use_language(language)
        return speak_in_it()

    return contextvars.copy_context().run(speak)


def test_the_colon_is_that_of_the_language() -> None:
    assert said("en", lambda: labelled("{x}", "y")) == "{x}: y"
    assert said("zh_CN", lambda: labelled("{x}", "y")) == "{x}：y"


def test_names_and_clauses_are_joined_as_the_language_does_it() -> None:
    assert said("en", lambda: clauses("a", "", enumerated(["b", "c"]))) == "a; b, c"
    assert said("zh_CN", lambda: clauses("a", "", enumerated(["b", "c"]))) == "a；b、c"
