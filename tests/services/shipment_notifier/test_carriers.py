"""The warehouse's word in the marketplace's."""

from __future__ import annotations

import pytest

from services.shipment_notifier.carriers import Found, Listed, Unknown, changes, resolve, told, valid, word
from services.shipment_notifier.model import Told
from shared.mappings import Carrier

LIST = (
    Listed(code="DHL-DE", label="DHL Paket", standard_code="DHL"),
    Listed(code="DPD-UK", label="DPD", standard_code="DPDGB"),
    Listed(code="UPS-1", label="United Parcel", standard_code="UPS"),
    Listed(code="UPS-2", label="United Parcel", standard_code="UPS"),
    Listed(code="DHL", label="Old name"),
)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("DPDGB", "DPD-UK"),
        (" dpd-uk ", "DPD-UK"),
        ("Dhl  paket", "DHL-DE"),
        ("dhl", "DHL-DE"),
        ("ups-2", "UPS-2"),
    ],
    ids=["standard code", "code", "label", "a standard code comes before a code", "code of one of two alike"],
)
def test_a_name_is_found_on_the_list_whatever_its_case_and_spaces(written: str, code: str) -> None:
    assert resolve(word(written), None, LIST) == Found(code=code)


@pytest.mark.parametrize("written", ["dpd uk ", "ups", "united parcel", "hermes", None])
def test_a_name_that_fits_none_or_two_is_unknown(written: str | None) -> None:
    assert resolve(word(written), None, LIST) == Unknown()


def test_what_a_person_mapped_comes_before_the_list() -> None:
    assert resolve("dpd uk", Carrier(right="DPD-UK"), LIST) == Found(code="DPD-UK")
    assert resolve("dhl", Carrier(right="DHL"), LIST) == Found(code="DHL")


def test_a_mapping_to_a_code_that_the_list_lost_is_unknown_and_says_so() -> None:
    assert resolve("dpd", Carrier(right="DPD"), LIST) == Unknown(gone="DPD")


def test_a_carrier_beside_the_list_goes_by_name_with_a_link_of_its_own() -> None:
    found = resolve(
        "bob", Carrier(right="Bob", registered=False, tracking_url="https://bob.example/{trackingId}"), LIST
    )
    assert isinstance(found, Found)
    assert told(found, "7", None) == Told(carrier_name="Bob", tracking_number="7", tracking_url="https://bob.example/7")
    assert told(found, "7", "https://x.example/7").tracking_url == "https://x.example/7"


def test_a_carrier_on_the_list_goes_by_code_alone() -> None:
    assert told(Found(code="DPD-UK"), "7", "https://x.example/7") == Told(carrier_code="DPD-UK", tracking_number="7")


def test_a_parcel_without_carrier_has_a_line_of_its_own_in_the_table() -> None:
    assert word(None) == word("  ") == "(none)"


def test_the_valid_list_begins_with_the_likeliest_and_fits_a_fact() -> None:
    assert valid("dpd uk", LIST).splitlines()[0] == "DPD-UK (DPD)"
    many = [Listed(code=f"C{n:05d}", label="x" * 40) for n in range(2_000)]
    assert len(valid("dpd", many)) <= 4_000


def test_changes_of_the_list_are_told_line_by_line() -> None:
    after = (*LIST[:1], Listed(code="DPD-UK", label="DPD UK"), *LIST[3:], Listed(code="N", label="New"))
    assert changes(LIST, after).splitlines() == [
        "gone: UPS-1 (United Parcel)",
        "new: N (New)",
        "changed: DPD-UK (DPD, now DPD UK)",
    ]
