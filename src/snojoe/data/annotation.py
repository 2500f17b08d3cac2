"""One annotation file of the PASCAL-VOC format, as labelling tools write it."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from snojoe.data.archives import Archive
from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line

_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["'][^>]*\?>""")
# What expat reads by itself; others, such as gb2312 or "utf8", Python decodes.
_OF_EXPAT = {"utf-8", "iso8859-1", "ascii"}
# makesense.ai writes Unspecified, others leave it empty.
_DIFFICULT = {"1": True, "true": True, "0": False, "false": False, "unspecified": False, "": False}


class Annotation(NamedTuple):
    """Names of the objects in an image, and the image that the file says it is of, if any."""

    labels: frozenset[str]
    filename: str

    @property
    def image_stem(self) -> str:
        """The image's name without its folder and its suffix."""
        name = self.filename.replace("\\", "/").rpartition("/")[2]
        return name.rpartition(".")[0] or name


def read_annotation(archive: Archive, name: str, *, difficult: bool) -> Annotation:
    """Read ``<annotation>`` with its ``<object>``; `difficult` is whether those so marked count.

    Raises
    ------
    SnojoeError
        If it is none, naming it.
    """
    where = f"{archive.path}: {name}"
    try:
        root = fromstring(_in_utf8(archive[name]))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise SnojoeError(f"{where} is not valid XML ({first_line(error)})") from None
    if root.tag != "annotation":
        raise SnojoeError(f"{where}: expected <annotation>; got <{root.tag}>")
    labels = set()
    for thing in root.iterfind("object"):
        label = _text(thing, "name")
        if not label:
            raise SnojoeError(f"{where}: an <object> without a <name>")
        marked = _text(thing, "difficult")
        if marked.lower() not in _DIFFICULT:
            raise SnojoeError(f"{where}: <difficult>: expected 0 or 1; got {marked!r}")
        if difficult or not _DIFFICULT[marked.lower()]:
            labels.add(label)
    return Annotation(frozenset(labels), _text(root, "filename"))


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _in_utf8(content: bytes) -> bytes:
    content = content.removeprefix(codecs.BOM_UTF8)
    declared = _DECLARATION.match(content)
    if declared is None:
        return content
    encoding = codecs.lookup(declared[1].decode()).name
    if encoding in _OF_EXPAT and declared[1].lower() != b"utf8":
        return content
    # gb18030 is all of gb2312 and of what programs write that say gb2312. What can be read as far
    # as the declaration is no utf-16, whatever .NET says there.
    encoding = "gb18030" if encoding in ("gb2312", "gbk") else encoding
    encoding = "utf-8" if encoding.startswith(("utf-16", "utf-32")) else encoding
    return content[declared.end() :].decode(encoding).encode()
