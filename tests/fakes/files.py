"""Files of every format that documents have, made on the spot."""

import io
import zipfile
from collections.abc import Mapping, Sequence

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
ODF = "urn:oasis:names:tc:opendocument:xmlns:"
DOCX_START = (
    f'<w:document xmlns:w="{W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>'
)
ODT_START = (
    f'<office:document-content xmlns:office="{ODF}office:1.0" xmlns:text="{ODF}text:1.0" xmlns:table="{ODF}table:1.0" '
    f'xmlns:style="{ODF}style:1.0">'
)
RELATIONS = (
    f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
    'Target="{target}"/></Relationships>'
)


def zipped(entries: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, **parts: str) -> bytes:
    """Return a document of Word with this body, and with parts such as `styles`."""
    return zipped(
        {
            "_rels/.rels": RELATIONS.format(target="word/document.xml"),
            "word/document.xml": f"{DOCX_START}{body}</w:body></w:document>",
            **{f"word/{name}.xml": f'<w:{name} xmlns:w="{W}">{xml}</w:{name}>' for name, xml in parts.items()},
        }
    )


def paragraph(text: str, properties: str = "") -> str:
    """Return a paragraph of Word."""
    return f'<w:p><w:pPr>{properties}</w:pPr><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def odt(body: str, styles: str = "", **entries: str) -> bytes:
    """Return a document of LibreOffice with this text."""
    content = (
        f"{ODT_START}<office:automatic-styles>{styles}</office:automatic-styles><office:body><office:text>{body}"
        "</office:text></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.text"
    return zipped({"mimetype": kind, "content.xml": content, **entries})


def epub(chapters: Mapping[str, str], spine: Sequence[str], **entries: str) -> bytes:
    """Return an e-book; `spine` names the chapters in the order of reading."""
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters
    )
    if "OEBPS/toc.ncx" in entries:
        items += '<item id="toc" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    references = "".join(f'<itemref idref="{name}"/>' for name in spine)
    package = f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{references}</spine></package>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": package,
            **{
                f"OEBPS/text/{name}.xhtml": '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
                f"<title>The book</title></head><body>{body}</body></html>"
                for name, body in chapters.items()
            },
            **entries,
        }
    )


def pdf(pages: Sequence[Sequence[str]], titles: Mapping[str, int] | None = None, *, trailer: str = "") -> bytes:
    """Return a PDF of lines in a Latin or a Chinese font; `titles` are bookmarks with the indexes of their pages."""
    objects: list[bytes] = [b"", b""]  # the catalogue and the tree of pages, which come last

    def add(content: bytes | str) -> int:
        objects.append(content if isinstance(content, bytes) else content.encode("latin-1"))
        return len(objects)

    latin = add("<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>")
    descendant = add(
        "<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)"
        "/Supplement 4>>/FontDescriptor<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[0 -200 1000 900]"
        "/ItalicAngle 0/Ascent 800/Descent -200/CapHeight 700/StemV 80>>>>"
    )
    chinese = add(
        f"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UTF16-H/DescendantFonts[{descendant} 0 R]>>"
    )
    numbers = []
    for lines in pages:
        drawn = "".join(f"/{'F1' if line.isascii() else 'F2'} 11 Tf <{_code(line)}> Tj 0 -14 Td " for line in lines)
        content = f"BT 60 780 Td {drawn}ET"
        stream = add(f"<</Length {len(content)}>>stream\n{content}\nendstream")
        numbers.append(
            add(
                f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {stream} 0 R"
                f"/Resources<</Font<</F1 {latin} 0 R/F2 {chinese} 0 R>>>>>>"
            )
        )
    outlines = ""
    if titles:
        first = len(objects) + 2
        outlines = f"/Outlines {first - 1} 0 R"
        add(f"<</Type/Outlines/First {first} 0 R/Last {first + len(titles) - 1} 0 R/Count {len(titles)}>>")
        for at, (title, page) in enumerate(titles.items()):
            following = f"/Next {first + at + 1} 0 R" if at + 1 < len(titles) else ""
            name = ("\ufeff" + title).encode("utf-16-be").hex()
            add(f"<</Title<{name}>/Parent {first - 1} 0 R/Dest[{numbers[page]} 0 R/Fit]{following}>>")
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects[0] = f"<</Type/Catalog/Pages 2 0 R{outlines}>>".encode()
    objects[1] = f"<</Type/Pages/Count {len(numbers)}/Kids[{kids}]>>".encode()
    return _written(objects, trailer)


def _code(line: str) -> str:
    return (line.encode("latin-1") if line.isascii() else line.encode("utf-16-be")).hex()


def _written(objects: Sequence[bytes], trailer: str) -> bytes:
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<</Size %d/Root 1 0 R%b>>\n" % (len(objects) + 1, trailer.encode())
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)
