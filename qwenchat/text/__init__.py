"""Text: cleaning untrusted text, reading files as text, pinyin initials."""
