"""Markdown as models write it, drawn as lines of a terminal, while it is still being written.

`document` cuts growing text into blocks with `parser`; `render` lays blocks out at a width with the styles of a
`colours.Palette`; the result is `Line`s. Nothing here knows Textual's widgets, opens a link or obeys markup.
"""
