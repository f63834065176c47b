"""Markdown as models write it, drawn as lines of a terminal, while it is still being written.

`document` cuts growing text into blocks; `render` lays blocks out at a width with the styles of a `palette.Palette`;
the result is `Line`s. The screen and the command line share it. Nothing here knows a widget, opens a link or obeys
markup.
"""
