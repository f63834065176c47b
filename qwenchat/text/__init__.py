"""Untrusted text made safe, files read as text, pinyin initials."""
