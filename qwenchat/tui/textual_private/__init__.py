"""Everything that qwenchat uses of Textual beyond its documented interface, each with the reason beside it.

No module of the screen outside this folder touches an underscore name of a Textual object or one of its internal
messages; a test holds this. When Textual's upper bound in `pyproject.toml` is raised, this folder has to be read again.
"""
