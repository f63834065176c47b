"""The transcript: all messages of a branch in one view that costs what is visible.

`view.Transcript` is the widget; `shown` draws one message; `heights` says where each one lies; `find` searches.
"""
