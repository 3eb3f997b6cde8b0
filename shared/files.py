"""Files that remote systems give and take: CSV, NDJSON, JSON, XML; read and written with flat memory.

A file lies whole in memory or, where it is large, on disk before it is read or sent, so that a cut connection or
a failing source is noticed before anything of it is used.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import re
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from typing import IO, Any, Final, TypeVar
from xml.etree.ElementTree import Element

import ijson
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from shared.answers import Unreadable, in_utc, parsed

T = TypeVar("T")

MEMORY_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 1 << 16
LONGEST_TIME: Final = 40
"""No time in JSON is longer, quotes and all."""
BREATH: Final = 500
"""After so many rows others have their turn on the event loop."""

Rows = Iterable[T] | AsyncIterable[T]


async def each(rows: Rows[T]) -> AsyncGenerator[T, None]:
    """The rows of either kind of source, one by one."""
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        async for row in breathing(rows):
            yield row


async def breathing(rows: Iterable[T]) -> AsyncGenerator[T, None]:
    """A long loop that lets others have their turn."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % BREATH == 0:
            await asyncio.sleep(0)


async def written_csv(header: Sequence[str], rows: AsyncIterable[Sequence[str]], delimiter: str) -> IO[bytes]:
    """A CSV file of the rows, every value quoted, at its beginning; the caller closes it.

    Raises:
        ValueError: there is no row: nobody should be called for nothing.
    """
    file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  (the caller closes it)
    try:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        count = 0
        async for row in rows:
            writer.writerow(row)
            count += 1
        if not count:
            raise ValueError("a file without a line: ask nobody for nothing")
        text.flush()
        text.detach()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


async def csv_rows(file: IO[bytes]) -> AsyncGenerator[tuple[list[str], list[str]], None]:
    """Header and values of every line; the delimiter is the one that the header uses more."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    try:
        first = text.readline()
        text.seek(0)
        delimiter = ";" if first.count(";") >= first.count(",") else ","
        lines = csv.reader(text, delimiter=delimiter, strict=False)
        header = next(lines, [])
        async for values in breathing(lines):
            if any(values):
                yield header, values
    except csv.Error:
        raise Unreadable("not CSV") from None
    finally:
        text.close()


async def json_items(file: IO[bytes], member: str) -> AsyncGenerator[Any, None]:
    """The elements of a file that is an array, an object with the array `member`, or NDJSON.

    Numbers with a point are `Decimal`. Blank lines of NDJSON are passed over.
    """
    try:
        start = file.read(256).lstrip()
        file.seek(0)
        if start.startswith(b"["):
            items = _elements(file, "item")
        elif member and re.match(rb'\{\s*"%s"\s*:\s*\[' % member.encode(), start):
            items = _elements(file, f"{member}.item")
        else:
            items = (parsed(line) for line in file if line.strip())
        async for item in breathing(items):
            yield item
    finally:
        file.close()


def _elements(file: IO[bytes], prefix: str) -> Iterator[Any]:
    try:
        yield from ijson.items(_InUtc(file), prefix)
    except ijson.JSONError:
        raise Unreadable("not JSON") from None


class _InUtc:
    """A file whose times become UTC as it is read; the end of a part waits, where a time may be half there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        """The next part, empty at the end; `size` is not kept to, and 0 gives nothing."""
        while size:
            part = self._file.read(CHUNK_BYTES)
            known = in_utc(self._held + part)
            if not part:
                self._held = b""
                return known
            self._held = known[-LONGEST_TIME:]
            if ready := known[:-LONGEST_TIME]:
                return ready
        return b""


async def xml_elements(
    file: IO[bytes], names: Iterable[str], *, compressed: bool = False
) -> AsyncGenerator[Element, None]:
    """Every element with one of the local `names`, once it is complete; what was given is forgotten afterwards.

    A document type, an entity or a reference to elsewhere is refused.
    """
    wanted = frozenset(names)
    source: IO[bytes] = gzip.open(file) if compressed else file  # type: ignore[assignment]  # noqa: SIM115
    try:
        async for element in breathing(_complete(source, wanted)):
            yield element
    finally:
        source.close()
        file.close()


def _complete(source: IO[bytes], wanted: frozenset[str]) -> Iterator[Element]:
    open_elements: list[Element] = []
    inside = 0
    try:
        for event, element in iterparse(source, ("start", "end"), forbid_dtd=True):
            name = local_name(element)
            if event == "start":
                open_elements.append(element)
                inside += name in wanted
                continue
            open_elements.pop()
            if name in wanted:
                inside -= 1
                yield element
            if not inside:
                element.clear()
                if open_elements:
                    open_elements[-1].remove(element)
    except (ParseError, DefusedXmlException, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Unreadable(f"not XML that is read here: {type(error).__name__}") from None


def local_name(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def child(element: Element, name: str) -> Element | None:
    """The first child of that local name."""
    return next((inner for inner in element if local_name(inner) == name), None)


def text_of(element: Element, name: str) -> str | None:
    """The text of the first child of that local name."""
    inner = child(element, name)
    return None if inner is None else (inner.text or "").strip()
