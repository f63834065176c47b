"""The transcript: all messages of a branch in one widget that costs what is visible.

`transcript.Transcript` is the widget; `viewport` holds its scroll position, `column` where each message lies,
`message_layout` the lines of one message, `drawing` makes strips of lines, `find` searches.
"""
