"""What the chat screen does, one controller a concern; each is made with `context.ChatContext` and those it needs.

Controllers are no widgets and know nothing of each other but what is passed to them. `screens.chat` makes them and
routes messages and actions to them.
"""
