"""Which language a text is in, as far as that decides in which language a model is asked: Chinese or another one."""


def is_chinese(text: str) -> bool:
    """Say whether a text is rather Chinese than anything else, by its first 1,000 characters."""
    letters = [char for char in text[:1000] if char.isalpha()]
    return sum("\u4e00" <= char <= "\u9fff" for char in letters) * 4 > len(letters)
