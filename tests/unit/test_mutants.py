"""Every seeded defect applies to the code as it is, and names a test that is there."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, applied
from tests.mutants.defects import DEFECTS, Defect


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_applies_once_and_names_a_test_that_is_there(defect: Defect) -> None:
    broken = applied(defect, (ROOT / defect.file).read_text())
    assert broken is not None, f"in {defect.file} this does not stand exactly once: {defect.old}"
    compile(broken, defect.file, "exec")
    file, _, name = defect.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / "tests" / "integration" / file).read_text()


def test_defects_have_names_of_their_own() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 14
