"""The transcript's palette, made from a theme's variables.

A theme of ours sets every variable (see `tui.themes`); under any other theme what is missing follows its main
colours. Without colour, bold, underline and reverse say what colour would.
"""

from collections.abc import Mapping

from rich.style import Style
from textual.color import Color, ColorParseError

from qwenchat.markdown.palette import Palette


def palette_of(variables: Mapping[str, str], *, colour: bool = True) -> Palette:
    """Return the styles for a theme's variables; `colour=False` for NO_COLOR."""

    def style(name: str, default: str, background: str = "", **attributes: bool) -> Style:
        return _style(variables, name, default=default, background=background, attributes=attributes)

    page = "background"
    plain = not colour
    return Palette(
        text=style("foreground", "foreground", page),
        muted=style("transcript-muted", "foreground-muted", page),
        heading=style("transcript-heading", "primary", page, bold=True),
        link=style("transcript-link", "primary", page, underline=True),
        quote=style("transcript-quote", "foreground-muted", page, italic=True),
        formula=style("transcript-formula", "foreground", page),
        inline_code=style("transcript-inline-code", "accent", page, bold=plain),
        code=style("code-foreground", "foreground", "code-background"),
        code_frame=style("code-comment", "foreground-muted", "code-background"),
        tokens={
            kind: _style(
                variables, f"code-{name}", default="foreground", background="code-background", attributes=attributes
            )
            for kind, (name, attributes) in _CODE.items()
        },
        you=style("transcript-you", "accent", page, bold=True),
        model=style("transcript-model", "primary", page, bold=True),
        question=style("foreground", "foreground", "transcript-question-background"),
        selected=style("accent", "primary", page, bold=True),
        selection=style("transcript-selection", "background", "transcript-selection-background", reverse=plain),
        found=style("transcript-found", "background", "transcript-found-background", reverse=plain),
        found_current=style(
            "transcript-found", "background", "transcript-found-current-background", reverse=plain, underline=True
        ),
        mark=style("transcript-mark", "background", "transcript-mark-background", reverse=plain, bold=True),
        good=style("success", "success", page),
        warning=style("warning", "warning", page, bold=plain),
        error=style("error", "error", page, bold=True),
    )


_CODE: dict[str, tuple[str, dict[str, bool]]] = {
    "Comment": ("comment", {"italic": True}),
    "Keyword": ("keyword", {}),
    "Keyword.Constant": ("number", {}),
    "Keyword.Type": ("type", {}),
    "Operator": ("operator", {}),
    "Operator.Word": ("keyword", {}),
    "Punctuation": ("operator", {}),
    "Name.Function": ("function", {}),
    "Name.Class": ("type", {}),
    "Name.Decorator": ("function", {}),
    "Name.Exception": ("type", {}),
    "Name.Builtin": ("function", {}),
    "Name.Tag": ("keyword", {}),
    "Name.Attribute": ("type", {}),
    "Literal.String": ("string", {}),
    "Literal.Number": ("number", {}),
    "Generic.Deleted": ("deleted", {}),
    "Generic.Inserted": ("string", {}),
    "Generic.Heading": ("keyword", {"bold": True}),
    "Generic.Subheading": ("keyword", {}),
}
_BACKGROUNDS = {
    "code-background": "surface",
    "transcript-question-background": "surface",
    "transcript-found-background": "warning",
    "transcript-found-current-background": "accent",
    "transcript-mark-background": "primary",
    "transcript-selection-background": "primary",
    "code-deleted": "error",
}


def _style(
    variables: Mapping[str, str], name: str, default: str, background: str, attributes: dict[str, bool]
) -> Style:
    behind = _colour(variables, background, _BACKGROUNDS.get(background, "background"))
    front = _colour(variables, name, _BACKGROUNDS.get(name, default))
    if front.ansi is None and front.a < 1:
        front = behind + front if behind.ansi is None else front.with_alpha(1)
    return Style(
        color=front.rich_color,
        bgcolor=None if background in ("", "background") else behind.rich_color,
        bold=attributes.get("bold") or None,
        italic=attributes.get("italic") or None,
        underline=attributes.get("underline") or None,
        reverse=attributes.get("reverse") or None,
    )


def _colour(variables: Mapping[str, str], name: str, default: str) -> Color:
    for wanted in (name, default):
        if value := variables.get(wanted):
            try:
                return Color.parse(value)
            except ColorParseError:
                continue
    return Color.parse("ansi_default")
