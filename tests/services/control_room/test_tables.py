"""The tables here and the services that read them mean the same."""

from __future__ import annotations

import pytest

from services.catalog_publisher import errands, products
from services.catalog_publisher.content import CATEGORY, value_of
from services.control_room.tables import OFFER_COLUMNS, OWN_ACCOUNTS, OWN_ATTRIBUTES, TABLES, check_account
from services.finance_ledger import booking
from services.finance_ledger.posting import RECEIVABLE, SUSPENSE, rule_for
from shared.events.catalog import ProductChanged
from tests.kit.flow import NOW


def test_a_line_that_is_set_here_is_one_that_its_service_finds() -> None:
    read = (errands.ATTRIBUTES, products.CATEGORIES, booking.ACCOUNTS)
    for table in read:
        ours = TABLES[table.kind].mapping
        assert (ours.kind, ours.holds, ours.normalise) == (table.kind, table.holds, table.normalise)


def test_the_columns_of_offers_are_those_that_are_kept() -> None:
    assert set(OFFER_COLUMNS) == set(errands.OFFER_COLUMNS)


def test_what_every_product_has_is_what_is_read_of_it() -> None:
    product = ProductChanged(
        product_id="P1",
        kind="item",
        online=True,
        last_modified=NOW,
        eans=("1",),
        brand="b",
        names={"default": "n"},
        descriptions={"default": "d"},
        images=("https://shop.example/1.jpg",),
        master_id="M",
        primary_category="c",
    )
    said = {name for name in OWN_ATTRIBUTES if name != CATEGORY and value_of(product, name, "en")}
    assert said | {CATEGORY} == set(OWN_ATTRIBUTES)


@pytest.mark.parametrize("account", ["marketing-fees", "a", "4-x", "Fees", "a--b", "a-", "a" * 65, "suspense", "1 2"])
def test_an_account_that_is_refused_here_is_one_that_the_ledger_passes_over(account: str) -> None:
    taken = rule_for("NEW_FEE", account).account == account != SUSPENSE
    if taken:
        check_account("NEW_FEE", account)
    else:
        with pytest.raises(ValueError, match=account):
            check_account("NEW_FEE", account)


def test_the_ledgers_own_accounts_have_their_names() -> None:
    assert OWN_ACCOUNTS == (SUSPENSE, RECEIVABLE)
