"""The chat, which stays, and dialogs over it, one file each with its style sheet beside it."""
