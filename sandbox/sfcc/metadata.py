"""Custom attributes from a metadata file, as Business Manager and site archives import it.

The file is `meta/system-objecttype-extensions.xml` of a site archive: a `type-extension` per system object, with the
definitions of its custom attributes.
"""

from __future__ import annotations

from xml.etree import ElementTree

from sandbox.sfcc.xml_files import plain_xml

__all__ = ["read_metadata"]

METADATA = "{http://www.demandware.com/xml/impex/metadata/2006-10-31}"
# The platform's value types, and what JSON carries of them.
KINDS = {
    "int": "number",
    "double": "number",
    "enum-of-int": "number",
    "boolean": "boolean",
    "date": "date",
    "datetime": "date",
    "set-of-string": "set",
    "set-of-int": "set",
    "set-of-double": "set",
    "enum-of-set-of-string": "set",
}
TEXTS = frozenset({"string", "text", "html", "email", "password", "enum-of-string", "image"})


def read_metadata(content: bytes) -> dict[str, dict[str, str]]:
    """Per system object, the defined attributes and their kinds. Raises ValueError for what is not such a file."""
    try:
        root = ElementTree.fromstring(plain_xml(content))  # noqa: S314 - what could hurt is refused by plain_xml
    except ElementTree.ParseError as error:
        raise ValueError(f"the metadata is not XML: {error}") from error
    if root.tag != f"{METADATA}metadata":
        raise ValueError(f"the metadata begins with {root.tag}, not with metadata")
    found: dict[str, dict[str, str]] = {}
    for extension in root.iter(f"{METADATA}type-extension"):
        system_object = extension.get("type-id", "")
        for definition in extension.iter(f"{METADATA}attribute-definition"):
            name = definition.get("attribute-id", "")
            kind = definition.findtext(f"{METADATA}type", "").strip()
            if not system_object or not name or (kind not in KINDS and kind not in TEXTS):
                raise ValueError(f"attribute {name!r} of {system_object!r} has the unknown type {kind!r}")
            found.setdefault(system_object, {})[name] = KINDS.get(kind, "string")
    return found
