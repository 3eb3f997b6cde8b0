"""Every case code has its handbook entry, and the document is the code's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cases import case_id_of
from shared.handbook import DOCUMENT, HANDBOOK, document, entry, main

ROOT = Path(__file__).resolve().parents[2]
NAMES_A_CODE = ("code", "unknown_case", "given_up_case", "case_code")


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that the module's own names stand for."""
    found: dict[str, str] = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
            found |= {t.id: str(node.value.value) for t in targets if isinstance(t, ast.Name)}
    return found


def _codes_used(source: str) -> Iterator[str]:
    """The case codes that a module opens cases under, as far as they are written down in it."""
    tree = ast.parse(source)
    constants = _constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        values = [k.value for k in node.keywords if k.arg in NAMES_A_CODE and name in ("open_case", "Kind")]
        if name == "open_case" and len(node.args) > 1:
            values.append(node.args[1])
        for value in values:
            if isinstance(value, ast.Constant) and value.value is not None:
                yield str(value.value)
            elif isinstance(value, ast.Name) and value.id in constants:
                yield constants[value.id]


def _modules() -> list[Path]:
    return sorted(p for folder in ("services", "shared", "bridge") for p in (ROOT / folder).rglob("*.py"))


def test_every_case_code_in_the_code_base_has_an_entry() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {code}"
        for path in _modules()
        for code in _codes_used(path.read_text())
        if code not in HANDBOOK
    }
    assert not missing, "add these to shared/handbook.py"


def test_the_search_finds_codes_however_they_are_written() -> None:
    source = """
CODE = "by-name"
OTHER: Final = "by-annotated-name"
async def f(tx):
    await open_case(tx, "positional", about="a")
    await cases.open_case(tx, code="keyword", about="a")
    await open_case(tx, CODE, about="a")
    await open_case(tx, OTHER, about="a")
    Kind(name="x", unknown_case="of-a-kind", given_up_case=None)
"""
    assert set(_codes_used(source)) == {"positional", "keyword", "by-name", "by-annotated-name", "of-a-kind"}


def test_docs_handbook_is_generated_from_the_code() -> None:
    assert DOCUMENT.read_text() == document(), "run `make schemas`"
    assert main(["--check"]) == 0


def test_entries_are_complete_and_unique() -> None:
    for code, found in HANDBOOK.items():
        assert found.steps and found.meaning and found.title and found.owner_team and found.closes, code
        assert len(found.title) <= 500 and sum(map(len, found.steps)) < 3_500, code
    assert len(set(HANDBOOK)) == document().count("\n## ")


def test_an_unknown_code_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"add it to shared/handbook\.py"):
        entry("no-such-code")


def test_a_case_id_is_readable_where_it_fits_and_always_short_enough() -> None:
    assert case_id_of("unmapped-sku", "order/x/W-1") == "unmapped-sku/order/x/W-1"
    one = case_id_of("unmapped-sku", "order/x/W-1", "mapping/x/sku/A")
    other = case_id_of("unmapped-sku", "order/x/W-1", "mapping/x/sku/B")
    assert one != other
    assert one.startswith("unmapped-sku/order/x/W-1/")
    assert len(case_id_of("unmapped-sku", "order/" + "x" * 400)) == 128
