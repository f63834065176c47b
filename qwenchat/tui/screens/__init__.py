"""Dialogs over the chat, one file each with its style sheet beside it."""
