"""Files of every format become text, and what does not become text ends in one error with a hint."""

import asyncio
import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from qwenchat.documents.document import Document
from qwenchat.documents.reader import DocumentReader
from qwenchat.errors import FileError
from tests.fakes import files
from tests.fakes.files import docx, epub, odt, paragraph, pdf, zipped

pytestmark = pytest.mark.asyncio(loop_scope="module")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
DOCX_RELATIONS = {"_rels/.rels": files.RELATIONS.format(target="word/document.xml")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader() -> AsyncIterator[DocumentReader]:
    async with DocumentReader() as running:
        yield running


async def text_of(reader: DocumentReader, tmp_path: Path, name: str, content: bytes | str) -> str:
    """Return the text of a file with this name and content."""
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return (await reader.read(file)).text


async def refusal(reader: DocumentReader, tmp_path: Path, name: str, content: bytes | str) -> str:
    """Return what a user reads about a file that does not become text, without its name."""
    with pytest.raises(FileError) as caught:
        await text_of(reader, tmp_path, name, content)
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{tmp_path / name} ")


def table(*rows: tuple[str, ...]) -> str:
    """Return a table of Word."""
    cells = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


# Text


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.py", b"\tdef a():\r\n  return 1  \n\n\n", "\tdef a():\n  return 1  \n\n\n"),
        ("a.md", "# 标题\n\n* 一\n".encode(), "# 标题\n\n* 一\n"),
        ("a.txt", "你好，世界。".encode("gb18030"), "你好，世界。"),
        ("a.txt", "hello".encode("utf-16"), "hello"),
        ("a.csv", b"a,b\n1,2\n", "a,b\n1,2\n"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 2}\n'),
        ("page.txt", b"<html><p>x</p>", "<html><p>x</p>"),
        ("empty.py", b"", ""),
        ("report.pdf", b"just text", "just text"),
    ],
)
async def test_what_is_text_stays_as_it_is(
    reader: DocumentReader, tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    assert await text_of(reader, tmp_path, name, content) == text


async def test_a_text_has_pages_where_form_feeds_part_pages_of_a_printer(
    reader: DocumentReader, tmp_path: Path
) -> None:
    paged = "\f\n".join(f"line {page}\n" * 50 for page in range(3))
    assert await text_of(reader, tmp_path, "rfc.txt", paged) == paged
    assert await text_of(reader, tmp_path, "code.el", paged) == paged.replace("\f", "\n")
    assert await text_of(reader, tmp_path, "long.txt", "x\n" * 200 + "\f\fend") == "x\n" * 200 + "\n\nend"


async def test_a_folder_of_sources_starts_no_process(tmp_path: Path) -> None:
    before = psutil.Process().children()
    async with DocumentReader() as reader:
        for number in range(200):
            assert await text_of(reader, tmp_path, f"{number}.c", "int x;\n") == "int x;\n"
        assert psutil.Process().children() == before


async def test_a_document_has_the_name_and_the_media_type_of_its_file(reader: DocumentReader, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[1m.pdf").write_bytes(pdf([["Hello"]]))
    document = await reader.read(tmp_path / "a\x1b[1m.pdf")
    assert document == Document(name="a[1m.pdf", media_type="application/pdf", text="Hello")
    (tmp_path / "b.md").write_text("x")
    document = await reader.read(tmp_path / "b.md", "notes/b.md")
    assert document == Document(name="notes/b.md", media_type="text/markdown", text="x")


# PDF


async def test_a_pdf_has_pages_headings_and_whole_words(reader: DocumentReader, tmp_path: Path) -> None:
    pages = [
        ["Hello world", "an exam-", "ple of the GB-", "A norm", "一、引言", "你好，世界"],
        [],
        ["2.1 DER 1 Methods", "Results", "DER 1 Methods"],
    ]
    titles = {"一、引言": 0, "DER 1 Methods": 2, "Not there": 2}
    (tmp_path / "a.pdf").write_bytes(pdf(pages, titles))
    document = await reader.read(tmp_path / "a.pdf")
    first, second, third = document.text.split("\f")
    assert first == "Hello world\nan example of the GB-A norm\n# 一、引言\n你好，世界\n"
    assert second.strip() == ""
    assert third == "\n# 2.1 DER 1 Methods\nResults\nDER 1 Methods"
    assert document.page_at(document.text.index("Results")) == 3
    assert document.heading_at(document.text.index("Results")) == "2.1 DER 1 Methods"


async def test_a_chinese_word_is_whole_though_its_line_ended(reader: DocumentReader, tmp_path: Path) -> None:
    lines = ["第一章 方法", "本文介绍一种在笔记本电脑上离线运行大语言模", "型的方法。", "它很小", "也很快"]
    text = await text_of(reader, tmp_path, "a.pdf", pdf([lines, ["张三丰", "李四光"]]))
    assert text.split() == ["第一章", "方法", "".join(lines[1:3]), "它很小", "也很快", "张三丰", "李四光"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf([[], []]), "has no text: it needs OCR."),
        (
            pdf([["Secret"]], trailer=f"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<{'00' * 32}>/U<{'00' * 32}>>>"),
            "is protected by a password.",
        ),
        (pdf([["Hello"]])[:300], "is broken or incomplete."),
        (pdf([["Hello"]]).replace(b"/Kids[7 0 R]", b"/Kids[2 0 R 2 0 R]"), "is broken or incomplete."),
        (b"%PDF-1.7\n" + bytes(range(256)) * 100, "is broken or incomplete."),
        (pdf([["Hello"]]).replace(b"/Count 1/", b"/Count 30000/"), "has more than 20,000 pages."),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture: it needs OCR."),
    ],
)
async def test_a_pdf_without_text_says_why(reader: DocumentReader, tmp_path: Path, content: bytes, said: str) -> None:
    assert await refusal(reader, tmp_path, "a.pdf", content) == said


async def test_a_pdf_is_known_by_its_content(reader: DocumentReader, tmp_path: Path) -> None:
    assert await text_of(reader, tmp_path, "a.txt", pdf([["Hello"]])) == "Hello"
    assert await text_of(reader, tmp_path, "b.pdf", b"HTTP/1.1 200 OK\r\n\r\n" + pdf([["Hello"]])) == "Hello"
    assert await text_of(reader, tmp_path, "c.pdf", "<!DOCTYPE html><p>404 not found") == "404 not found"


# Word


async def test_a_document_of_word_is_read_with_all_that_it_says(reader: DocumentReader, tmp_path: Path) -> None:
    styles = (
        '<w:style w:styleId="1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="own"><w:name w:val="Mine"/><w:basedOn w:val="1"/></w:style>'
        '<w:style w:styleId="list"><w:name w:val="List"/>'
        '<w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style>'
    )
    numbering = (
        '<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="chineseCounting"/>'
        '<w:lvlText w:val="第%1章"/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="decimal"/><w:lvlText w:val="%1.%2"/>'
        '</w:lvl></w:abstractNum><w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/>'
        '<w:lvlText w:val="*"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>'
    )
    body = (
        paragraph("开始", '<w:pStyle w:val="own"/><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>')
        + paragraph("inner", '<w:outlineLvl w:val="1"/><w:numPr><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr>')
        + '<w:p><w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/>'
        '<w:t>c</w:t><w:footnoteReference w:id="7"/></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>'
        "<w:ins><w:r><w:t> new</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        + paragraph("one", '<w:pStyle w:val="list"/>')
        + paragraph("two", '<w:pStyle w:val="list"/>')
        + table(("name", "价格"), ("a|b", "1"))
        + "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>"
        + paragraph("boxed")
        + "</w:txbxContent></mc:Choice><mc:Fallback>again</mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    footnotes = (
        f'<w:footnote w:id="0">{paragraph("never")}</w:footnote><w:footnote w:id="7">{paragraph("a note")}</w:footnote>'
    )
    content = docx(body, styles=styles, numbering=numbering, footnotes=footnotes)
    assert await text_of(reader, tmp_path, "a.docx", content) == (
        "# 第1章 开始\n\n## 1.1 inner\n\na\tb\nc[^1] new\n\n- one\n- two\n\n"
        "| name | 价格 |\n| --- | --- |\n| a\\|b | 1 |\n\nboxed\n\n[^1]: a note"
    )


async def test_a_table_that_only_places_paragraphs_becomes_paragraphs(reader: DocumentReader, tmp_path: Path) -> None:
    nested = f"<w:tbl><w:tr><w:tc>{table(('a', 'b'), ('c', 'd'))}</w:tc><w:tc>{paragraph('x')}</w:tc></w:tr></w:tbl>"
    text = await text_of(reader, tmp_path, "a.docx", docx(nested + table(("long " * 300, "y"))))
    assert text == f"| a | b |\n| --- | --- |\n| c | d |\n\nx\n\n{('long ' * 300).strip()}\n\ny"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"), "is protected by a password."),
        ("a.doc", OLE, "has a format of Office before 2007."),
        ("a.docx", docx(""), "has no text."),
        ("a.docx", docx(paragraph("x"))[:400], "is broken or incomplete."),
        ("a.docx", docx("<w:p>"), "is broken or incomplete."),
        ("a.docx", docx("<w:p>" * 2000 + "</w:p>" * 2000), "is built as no ordinary document is, so it is not read."),
        (
            "a.docx",
            zipped(
                {**DOCX_RELATIONS, "word/document.xml": '<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><a>&b;</a>'}
            ),
            "is built as no ordinary document is, so it is not read.",
        ),
        (
            "a.docx",
            zipped({str(n): "" for n in range(20_001)}),
            "is built as no ordinary document is, so it is not read.",
        ),
        (
            "a.docx",
            zipped({**DOCX_RELATIONS, "word/document.xml": files.DOCX_START.encode() + b" " * (129 << 20)}),
            "holds too much to read.",
        ),
        (
            "a.docx",
            zipped({**DOCX_RELATIONS, "word/document.xml": "<a/>"}, zipfile.ZIP_BZIP2),
            "is broken or incomplete.",
        ),
        (
            "a.xlsx",
            zipped({"_rels/.rels": files.RELATIONS.format(target="xl/workbook.xml"), "xl/workbook.xml": "<a/>"}),
            "is a spreadsheet.",
        ),
        (
            "a.odp",
            zipped({"mimetype": "application/vnd.oasis.opendocument.presentation"}),
            "is a presentation or a drawing.",
        ),
        ("a.zip", zipped({"../../etc/passwd": "x"}), "is an archive."),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
async def test_a_container_without_text_says_why(
    reader: DocumentReader, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    assert await refusal(reader, tmp_path, name, content) == said
    assert list(tmp_path.iterdir()) == [tmp_path / name]


# LibreOffice


async def test_a_document_of_libreoffice_is_read_with_all_that_it_says(reader: DocumentReader, tmp_path: Path) -> None:
    styles = '<text:list-style style:name="L1"><text:list-level-style-number text:level="1"/></text:list-style>'
    body = (
        '<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:h text:outline-level="2">标题</text:h>'
        '<text:p>a<text:s text:c="2"/>b<text:tab/>c<text:line-break/>d<text:note>'
        "<text:note-citation>1</text:note-citation>"
        "<text:note-body><text:p>a note</text:p></text:note-body></text:note> e</text:p>"
        '<text:list text:style-name="L1"><text:list-item><text:p>one</text:p>'
        '<text:list text:style-name="L2"><text:list-item>'
        "<text:p>inner</text:p></text:list-item></text:list></text:list-item><text:list-item><text:p>two</text:p>"
        "</text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="999999999"/></table:table-row><table:table-row>'
        "<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>"
        '<text:p>f<text:s text:c="999999999"/></text:p>'
    )
    text = await text_of(reader, tmp_path, "a.odt", odt(body, styles))
    assert text == ("## 标题\n\na  b\tc\nd[^1] e\n\n1. one\n  - inner\n2. two\n\nx\n\ny\n\nf\n\n[^1]: a note")


async def test_a_document_of_libreoffice_with_a_password_says_so(reader: DocumentReader, tmp_path: Path) -> None:
    manifest = '<manifest><file-entry full-path="content.xml"><encryption-data/></file-entry></manifest>'
    content = odt("<text:p>x</text:p>", **{"META-INF/manifest.xml": manifest})
    assert await refusal(reader, tmp_path, "a.odt", content) == "is protected by a password."


# Books


async def test_a_book_is_read_in_the_order_of_its_spine(reader: DocumentReader, tmp_path: Path) -> None:
    chapters = {
        "one": '<h1>第一章</h1><p>Text<script src="x"/> goes <ruby>漢<rt>kan</rt></ruby> on</p>'
        "<ul><li>x</li><li>y</li></ul>",
        "two": "<h1>Preface</h1><p>a &amp; b</p>",
    }
    text = await text_of(reader, tmp_path, "a.epub", epub(chapters, ["two", "one", "two", "missing"]))
    assert text == "# Preface\n\na & b\n\n# 第一章\n\nText goes 漢 on\n\n- x\n- y"


async def test_a_chapter_without_a_heading_has_the_title_of_the_contents(
    reader: DocumentReader, tmp_path: Path
) -> None:
    points = (
        '<navPoint><navLabel><text>序</text></navLabel><content src="text/one.xhtml"/></navPoint>'
        '<navPoint><navLabel><text>Other</text></navLabel><content src="text/two.xhtml#a"/></navPoint>'
    )
    contents = {"OEBPS/toc.ncx": f"<ncx><navMap>{points}</navMap></ncx>"}
    book = epub({"one": "<p>x</p>", "two": "<h2>Own</h2><p>y</p>"}, ["one", "two"], **contents)
    assert await text_of(reader, tmp_path, "a.epub", book) == "# 序\n\nx\n\n## Own\n\ny"


async def test_a_book_that_is_locked_says_so_and_one_with_locked_fonts_is_read(
    reader: DocumentReader, tmp_path: Path
) -> None:
    def locking(entry: str) -> dict[str, str]:
        return {"META-INF/encryption.xml": f'<encryption><CipherReference URI="{entry}"/></encryption>'}

    book = {"one": "<p>x</p>"}
    assert await text_of(reader, tmp_path, "a.epub", epub(book, ["one"], **locking("OEBPS/font.otf"))) == "x"
    locked = epub(book, ["one"], **locking("OEBPS/text/one.xhtml"))
    assert await refusal(reader, tmp_path, "b.epub", locked) == "is protected by a password."
    outside = epub(book, ["one"]).replace(b"OEBPS/text/one", b"../../../etc/p")
    assert await refusal(reader, tmp_path, "c.epub", outside) == "has no text."


# Light formats


async def test_a_page_is_read_as_blocks(reader: DocumentReader, tmp_path: Path) -> None:
    page = (
        "<title>T</title><h2>A<br>b</h2><ol><li><p>x</p><li>y<ul><li>z</ul></ol>"
        "<table><tr><th>a<th>b<tr><td>1<td>2|3</table>"
    )
    text = "T\n\n## A b\n\n1. x\n2. y\n  - z\n\n| a | b |\n| --- | --- |\n| 1 | 2\\|3 |"
    assert await text_of(reader, tmp_path, "a.html", page) == text
    assert await text_of(reader, tmp_path, "b.html", page.encode("utf-16")) == text
    named = '<meta charset="{}"><p>{}'
    for encoding, words in (
        ("big5", "繁體中文"),
        ("gb2312", "朱镕基"),
        ("iso-8859-1", "“quoted”"),
        ("nonsense", "你好"),
    ):
        actual = {"gb2312": "gbk", "iso-8859-1": "cp1252", "nonsense": "utf-8"}.get(encoding, encoding)
        assert await text_of(reader, tmp_path, "c.html", named.format(encoding, words).encode(actual)) == words
    assert await refusal(reader, tmp_path, "d.html", b"<p>a\0b") == "is not a text file."


async def test_subtitles_are_read_with_a_time_each_minute(reader: DocumentReader, tmp_path: Path) -> None:
    srt = (
        "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hi</i>\r\n\r\n2\r\n00:00:05,000 --> 00:00:06,000\r\nHi\r\n"
        "there\r\n\r\n"
        "3\r\n00:01:01,500 --> 00:01:02,000\r\n{\\an8}你好\r\n"
    )
    assert await text_of(reader, tmp_path, "a.srt", srt) == "[0:00:01]\nHi\nthere\n\n[0:01:01]\n你好\n"
    vtt = "WEBVTT\n\nNOTE hidden\n\nname\n01:00.000 --> 01:02.000 align:start\n<v Ann>Hello\n"
    assert await text_of(reader, tmp_path, "a.vtt", vtt) == "[0:01:00]\nHello\n"


async def test_a_notebook_is_read_as_its_cells(reader: DocumentReader, tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "b"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": ["<Figure>"]}},
                {"output_type": "error", "traceback": ["\x1b[31mOops\x1b[0m"]},
            ],
        },
    ]
    text = await text_of(reader, tmp_path, "a.ipynb", json.dumps({"cells": cells}))
    assert text == "# A\nb\n\n```python\nprint(1)\n```\n\n```\n1\n```\n\n```\n<Figure>\n```\n\n```\nOops\n```\n\n"
    assert await refusal(reader, tmp_path, "b.ipynb", "{}") == "is broken or incomplete."
    said = await refusal(reader, tmp_path, "c.ipynb", "[" * 100_000)
    assert said == "is built as no ordinary document is, so it is not read."


async def test_rich_text_is_read_in_its_encodings(reader: DocumentReader, tmp_path: Path) -> None:
    rtf = (
        r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset134 SimSun;}}"
        r"{\*\generator x}{\info{\title t}}"
        r"\f0 caf\'e9\par {\f1 \'c4\'e3\'ba\'c3}{\b , \u20320?\u-10179?\u-8704?}\line a\tab b\{\par"
        r"\trowd\pard\intbl x\par y\cell {\pard\intbl z\par}\cell\row\pard end}"
    )
    assert await text_of(reader, tmp_path, "a.rtf", rtf) == "café\n你好, 你😀\na\tb{\nx y\tz \t\nend"


async def test_what_can_not_be_stored_never_leaves(reader: DocumentReader, tmp_path: Path) -> None:
    text = await text_of(reader, tmp_path, "a.rtf", r"{\rtf1 a\u-10179?b\u0?c\'0cd}")
    assert text == "a\ufffdbc\nd"


# Hostile places


async def test_what_is_no_file_is_refused(reader: DocumentReader, tmp_path: Path) -> None:
    async def said(path: Path) -> str:
        with pytest.raises(FileError) as caught:
            await asyncio.wait_for(reader.read(path), 5)
        assert caught.value.hint
        return caught.value.message

    assert "can't be read: No such file" in await said(tmp_path / "missing.pdf")
    assert "is a folder" in await said(tmp_path)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.pdf")
        assert "a device or a pipe" in await said(tmp_path / "pipe.pdf")
        assert "a device or a pipe" in await said(Path("/dev/zero"))


async def test_a_huge_file_is_refused_before_it_is_read(reader: DocumentReader, tmp_path: Path) -> None:
    for beginning, limit in ((b"text", "64"), (b"%PDF-1.7", "512")):
        with (tmp_path / "huge").open("wb") as file:
            file.write(beginning)
            file.truncate(1 << 30)
        with pytest.raises(FileError, match=f"is larger than {limit} MiB"):
            await reader.read(tmp_path / "huge")
