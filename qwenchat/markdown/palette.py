"""Styles by what they are for: what Markdown and the lines around it are drawn with.

The screen makes a palette of a theme (`tui.colours`); the command line uses the terminal's own colours. Nothing here
reads a theme.
"""

from collections.abc import Mapping

from msgspec import Struct, field
from rich.style import Style


class Palette(Struct, frozen=True, eq=False):
    """Styles by what they are for. The default is for tests: no colour at all."""

    text: Style = field(default_factory=Style)
    muted: Style = field(default_factory=lambda: Style(dim=True))
    heading: Style = field(default_factory=lambda: Style(bold=True))
    link: Style = field(default_factory=lambda: Style(underline=True))
    quote: Style = field(default_factory=Style)
    formula: Style = field(default_factory=Style)
    inline_code: Style = field(default_factory=Style)
    code: Style = field(default_factory=Style)
    code_frame: Style = field(default_factory=Style)
    tokens: Mapping[str, Style] = field(default_factory=dict)
    """Code by the first words of Pygments' token names, such as `Name.Function`."""
    you: Style = field(default_factory=lambda: Style(bold=True))
    model: Style = field(default_factory=lambda: Style(bold=True))
    question: Style = field(default_factory=Style)
    """Behind a question."""
    selected: Style = field(default_factory=lambda: Style(bold=True))
    selection: Style = field(default_factory=lambda: Style(reverse=True))
    """Over what the mouse selected."""
    found: Style = field(default_factory=lambda: Style(reverse=True))
    found_current: Style = field(default_factory=lambda: Style(reverse=True, bold=True))
    mark: Style = field(default_factory=lambda: Style(reverse=True))
    """What floats over the text, such as the way back to the end."""
    good: Style = field(default_factory=Style)
    warning: Style = field(default_factory=Style)
    error: Style = field(default_factory=lambda: Style(bold=True))

    @classmethod
    def of_terminal(cls) -> "Palette":
        """Return styles in the terminal's own colours."""
        return cls(
            heading=Style(bold=True, color="cyan"),
            link=Style(underline=True, color="cyan"),
            quote=Style(italic=True),
            inline_code=Style(bold=True, color="magenta"),
            code_frame=Style(dim=True),
            tokens={
                "Comment": Style(italic=True, dim=True),
                "Keyword": Style(color="magenta"),
                "Name.Function": Style(color="cyan"),
                "Name.Class": Style(color="cyan"),
                "Name.Builtin": Style(color="cyan"),
                "Literal.String": Style(color="green"),
                "Literal.Number": Style(color="yellow"),
                "Generic.Deleted": Style(color="red"),
                "Generic.Inserted": Style(color="green"),
            },
            you=Style(bold=True, color="cyan"),
            model=Style(bold=True, color="green"),
            found=Style(bold=True, color="yellow"),
            warning=Style(color="yellow"),
        )

    def token(self, kind: str) -> Style:
        """Return the style of code whose token has this dotted name, or that of the nearest name above it."""
        while kind:
            if style := self.tokens.get(kind):
                return style
            kind = kind.rpartition(".")[0]
        return self.code
