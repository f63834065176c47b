"""Takes the text out of formats that are text with something around it: notebooks, subtitles, RTF."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from qwenchat.documents.extract.formats import Format
from qwenchat.text.safe import fenced

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_CUE = re.compile(r"\s*(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,]\d{1,3}\s*-->")
_CUE_MARKUP = re.compile(r"<[^<>]{0,100}>|\{\\[^{}]{0,100}\}")
_MARK_EVERY_S = 60


def pieces(file_format: Format, text: str) -> Iterator[str]:
    """Yield the text of a file. Raises ValueError, KeyError and TypeError for one that is broken."""
    if file_format is Format.NOTEBOOK:
        return _notebook(text)
    if file_format is Format.SUBTITLES:
        return _subtitles(text)
    return _rtf(text)


def _notebook(text: str) -> Iterator[str]:
    """Yield the cells of a Jupyter notebook, with the texts that the code wrote."""
    notebook = json.loads(text)
    language = str(notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python"))
    cells = (
        notebook["cells"] if "cells" in notebook else [c for sheet in notebook["worksheets"] for c in sheet["cells"]]
    )
    for cell in cells:
        source = _lines(cell.get("source", cell.get("input", "")))
        is_code = cell["cell_type"] == "code"
        if source.strip():
            yield (fenced(source).replace("\n", f"{language}\n", 1) if is_code else source.strip()) + "\n\n"
        for output in cell.get("outputs", ()) if is_code else ():
            said = output.get("traceback") or output.get("text") or output.get("data", {}).get("text/plain", "")
            written = _ESCAPES.sub("", "\n".join(said) if "traceback" in output else _lines(said))
            if written.strip():
                yield fenced(written) + "\n\n"


def _lines(text: object) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _subtitles(text: str) -> Iterator[str]:
    """Yield what is said, with the time about once a minute; lines that are shown again are left out."""
    last, next_mark, is_cue = "", 0, False
    for line in text.split("\n"):
        if found := _CUE.match(line):
            is_cue = True
            hours, minutes, seconds = (int(each or 0) for each in found.groups())
            time = (hours * 60 + minutes) * 60 + seconds
            if time >= next_mark:
                yield (
                    f"\n[{hours}:{minutes:02}:{seconds:02}]\n"
                    if next_mark
                    else f"[{hours}:{minutes:02}:{seconds:02}]\n"
                )
                next_mark = time - time % _MARK_EVERY_S + _MARK_EVERY_S
        elif not line.strip():
            is_cue = False
        elif is_cue:
            said = _CUE_MARKUP.sub("", line).strip()
            if said and said != last:
                yield said + "\n"
                last = said


_RTF = re.compile(
    r"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|([^\\{}\n]+)", re.DOTALL
)
_RTF_LEFT_OUT = re.compile(
    "fonttbl|colortbl|stylesheet|info|pict|object|header[lrf]?|footer[lrf]?|nonesttables|listtable|revtbl"
)
_RTF_CHARACTERS = {
    **dict.fromkeys(("par", "line", "sect", "page", "row"), "\n"),
    "cell": "\t",
    "tab": "\t",
    "emdash": "—",
    "endash": "–",
    "bullet": "•",
    "lquote": "‘",
    "rquote": "’",
    "ldblquote": "“",
    "rdblquote": "”",
    "~": " ",
    "_": "-",
    "\n": "\n",
    "{": "{",
    "}": "}",
    "\\": "\\",
}
_CHARSETS = {
    128: "cp932", 129: "cp949", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255",
    178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
"""Encodings by the numbers that fonts have for them."""


@dataclass(frozen=True, slots=True)
class _Group:
    is_left_out: bool = False
    is_font_table: bool = False
    encoding: str = ""
    """Of the font; empty for that of the file."""
    is_in_table: bool = False
    stand_ins: int = 1
    """How many characters follow one that is given by its number, for programs that don't know it."""


class _RtfReader:
    """Reads the tokens of RTF: what is written, in which encoding."""

    def __init__(self) -> None:
        self._outer: list[_Group] = []
        self._group = _Group()
        self._file_encoding = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._to_skip = 0
        self._bytes = bytearray()
        """Bytes that are not decoded yet: a character may have two."""

    def read(self, found: re.Match[str]) -> str:
        """Read a token and return the text that it completes."""
        word, number, code, symbol, brace, text = found.groups()
        if code:
            if self._to_skip:
                self._to_skip -= 1
            elif not self._group.is_left_out:
                self._bytes.append(int(code, 16))
            return ""
        before = self.rest()
        if brace == "{":
            self._outer.append(self._group)
        elif brace:
            self._group = self._outer.pop() if self._outer else _Group()
        elif word == "u" and number:
            self._to_skip = self._group.stand_ins
            return before + self._seen(chr(int(number) % 0x10000))
        elif word:
            self._control(word, int(number or 0))
        if text:
            skipped = min(self._to_skip, len(text))
            self._to_skip -= skipped
            return before + self._seen(text[skipped:])
        if symbol == "*":
            self._group = replace(self._group, is_left_out=True)
        if word == "par" and self._group.is_in_table:  # a cell stays on its line
            return before + self._seen(" ")
        return before + self._seen(_RTF_CHARACTERS.get(word or symbol or "", ""))

    def rest(self) -> str:
        """Return the text of the bytes that were read last."""
        text = self._bytes.decode(self._group.encoding or self._file_encoding, "replace")
        self._bytes.clear()
        return text

    def _seen(self, text: str) -> str:
        return "" if self._group.is_left_out else text

    def _control(self, word: str, number: int) -> None:
        if _RTF_LEFT_OUT.fullmatch(word):
            self._group = replace(self._group, is_left_out=True, is_font_table=word == "fonttbl")
        elif word == "ansicpg" and number in (932, 936, 949, 950, *range(1250, 1259)):
            self._file_encoding = f"cp{number}"
        elif word in ("intbl", "pard"):
            self._group = replace(self._group, is_in_table=word == "intbl")
        elif word == "uc":
            self._group = replace(self._group, stand_ins=max(0, min(number, 8)))
        elif word == "f" and self._group.is_font_table:
            self._font = number
        elif word == "fcharset":
            self._fonts[self._font] = _CHARSETS.get(number, "")
        elif word == "f":
            self._group = replace(self._group, encoding=self._fonts.get(number, ""))


def _rtf(text: str) -> Iterator[str]:
    """Yield the text of a Rich Text file."""
    reader = _RtfReader()
    at = 0
    while found := _RTF.search(text, at):
        at = found.end()
        if found[1] == "bin":
            at += max(0, int(found[2] or 0))
        else:
            yield reader.read(found)
    yield reader.rest()
