"""Reading a request: its query, JSON or parts typed by the operation's description, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from typing import Any

import msgspec

from sandbox.common.server import from_json
from sandbox.mirakl import shapes
from sandbox.mirakl.call import Part
from sandbox.mirakl.operations import PARAMETERS, Operation


@dataclass(slots=True)
class Reading:
    """What was read, as far as it could be."""

    query: dict[str, Any]
    body: Any = None
    form: dict[str, Part] = field(default_factory=dict)
    problems: list[shapes.Problem] = field(default_factory=list)


def read_request(
    operation: Operation,
    raw_query: list[tuple[str, str]],
    content_type: str,
    has_length: bool,
    body: bytes,
    *,
    refuse_unknown: bool,
) -> Reading:
    """Types a request; everything about it that the contract does not allow is among the problems."""
    problems: list[shapes.Problem] = []
    # A page token makes every other parameter void.
    tokens = [pair for pair in raw_query if pair[0] == "page_token"] if operation.paging else []
    query = shapes.check_query(PARAMETERS[operation.code], tokens or raw_query, problems, refuse_unknown=refuse_unknown)
    read = Reading(query, problems=problems)
    if operation.form is not None:
        read.form = _parts(content_type, body)
        _check_form(operation.form, read.form, problems)
    elif operation.body is not None:
        content = _json_body(content_type, body, problems)
        if content is not None:
            read.body = shapes.check_body(operation.body, content, "", problems, refuse_unknown=refuse_unknown)
    elif operation.method in ("PUT", "POST") and not has_length:
        problems.append(shapes.Problem("no_content_length", "Content-Length", "Content-Length: 0 is missing", False))
    return read


def _json_body(content_type: str, body: bytes, problems: list[shapes.Problem]) -> Any:
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and body:
        problems.append(
            shapes.Problem(
                "wrong_content_type", "Content-Type", f"{media or 'no content type'} is not application/json"
            )
        )
        return None
    try:
        content = from_json(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        problems.append(shapes.Problem("malformed_body", "", "The body is not JSON"))
        return None
    if content is None:
        problems.append(shapes.Problem("malformed_body", "", "The body is null"))
    return content


def _parts(content_type: str, body: bytes) -> dict[str, Part]:
    """The parts of a multipart body by name; nothing where it is none."""
    head = BytesHeaderParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace"))
    boundary = head.get_param("boundary")
    if head.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        return {}
    found: dict[str, Part] = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        if piece.startswith(b"--"):
            break
        header_block, separator, content = piece.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            continue
        headers = BytesHeaderParser().parsebytes(header_block + b"\r\n\r\n")
        name = headers.get_param("name", header="content-disposition")
        if isinstance(name, str):
            found[name] = Part(content, headers.get_filename())
    return found


def _check_form(shape: dict[str, Any], form: dict[str, Part], problems: list[shapes.Problem]) -> None:
    known = {name.rstrip("*"): leaf for name, leaf in shape.items()}
    for name in shape:
        if name.endswith("*") and name.rstrip("*") not in form:
            problems.append(shapes.Problem("missing_field", name.rstrip("*"), f"{name.rstrip('*')} is required"))
    params = {name: shapes.Param(name, leaf) for name, leaf in known.items() if leaf.type not in ("file", "any")}
    texts = [
        (name, part.content.decode("utf-8", "replace"))
        for name, part in form.items()
        if name in params or name not in known
    ]
    file = form.get("file")
    if file is not None and file.filename is None:
        problems.append(shapes.Problem("file_without_name", "file", "The part file has no filename", False))
    if file is not None and not file.content:
        problems.append(shapes.Problem("empty_file", "file", "The file is empty"))
    shapes.check_query(params, texts, problems, refuse_unknown=False)
