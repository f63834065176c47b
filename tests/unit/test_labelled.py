"""A label and what it stands for, with the colon of each language."""

import contextvars

from qwenchat.i18n import labelled, use_language


def said(language: str) -> str:
    def speak() -> str:
        use_language(language)
        return labelled("{x}", "y")

    return contextvars.copy_context().run(speak)


def test_the_colon_is_that_of_the_language() -> None:
    assert said("en") == "{x}: y"
    assert said("zh_CN") == "{x}：y"
