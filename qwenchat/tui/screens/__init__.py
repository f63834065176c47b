"""Screens. `chat` is the one that stays; the others are modal and return what a person chose.

- `welcome.WelcomeScreen(program) -> str | None`: a model reference to begin with.
- `models.ModelScreen(program, current) -> str | None`: a model reference.
- `session.SessionScreen(program, session) -> Session | None`: the session with other settings.
- `export.ExportScreen(program, session_ids) -> None`, `settings.SettingsScreen(program) -> bool`,
  `help.HelpScreen(actions) -> None`, `settings.ThemeScreen() -> str | None`.
- `line.LineScreen(title, value) -> str | None`: one line of text.

`open` is the one place that imports them, when they are wanted.
"""
