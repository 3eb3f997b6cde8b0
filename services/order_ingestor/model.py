"""What is known of an order, in plain structs: its facts, its buyer, and how far it has come."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from shared.events.finance import OrderNetChanged
from shared.events.orders import CancelledLine, OrderFacts, OrderRefunded
from shared.money import Money

Stage = Literal["captured", "held", "observed", "owed", "created", "left", "refused"]
"""`held`: a person is asked; `observed`: would be created, but this stage does not send; `owed`: it is being
created; `left`: not to be created; `refused`: SFCC would not have it."""

_WORD: Final = re.compile(r"\w+")

NEVER_CREATED = ("captured", "held", "observed", "refused")


class Address(Struct, frozen=True, kw_only=True):
    """A person's address. `country_code` has two letters, or is missing where nobody knows it. Personal data."""

    first_name: str | None = None
    last_name: str | None = None
    salutation: str | None = None
    company: str | None = None
    street_1: str | None = None
    street_2: str | None = None
    more: str | None = None
    postal_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    """As sent: three letters, or a name."""
    country_code: str | None = None
    phone: str | None = None


class Buyer(Struct, frozen=True, kw_only=True):
    """Who bought, as far as the marketplace shows it. `email` is its anonymised alias. Personal data."""

    email: str | None = None
    locale: str | None = None
    billing: Address | None = None
    shipping: Address | None = None

    @property
    def unknown_country(self) -> str | None:
        """A country as sent of which nobody knows the code."""
        for address in (self.shipping, self.billing):
            if address is not None and address.country_code is None:
                return address.country or "?"
        return None

    def hidden_in(self, text: str) -> str:
        """A text of somebody who was sent the buyer's data, such as a refusal, without any word of theirs.

        A short number stays: it says nothing of a person, and may be the figure that explains the refusal.
        """
        values = [
            self.email,
            *(v for one in (self.billing, self.shipping) if one for v in msgspec.structs.astuple(one)),
        ]
        told = {_folded(word) for value in values if value for word in _WORD.findall(value)}
        words = {word for word in told if len(word) > 1 and not (word.isdigit() and len(word) < 4)}

        def shown(match: re.Match[str]) -> str:
            word = _folded(match[0])
            # A text that was cut off may end within a word.
            cut = match.end() == len(text) and any(one.startswith(word) for one in words)
            return "***" if word in words or cut else match[0]

        text = unicodedata.normalize("NFC", text)
        return _WORD.sub(shown, text)


def _folded(word: str) -> str:
    """Without accents and case."""
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))


class SeenCancelation(Struct, frozen=True, kw_only=True):
    """A part of a line that was cancelled (OR11 `cancelations`)."""

    cancelation_id: str
    line: CancelledLine
    created_at: datetime | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """One order as OR11 shows it now."""

    facts: OrderFacts
    buyer: Buyer
    read_at: datetime
    """By the marketplace's own clock."""
    refunds: tuple[OrderRefunded, ...] = ()
    cancelations: tuple[SeenCancelation, ...] = ()
    reference: str | None = None
    """The seller's own number for the order, as the marketplace shows it."""


class Told(Struct, frozen=True, kw_only=True):
    """What events have said of the order's parts already."""

    refunds: dict[str, str] = field(default_factory=dict)
    """Refund id to its state."""
    refunded: Decimal = Decimal(0)
    cancelations: tuple[str, ...] = ()
    cancelled_lines: tuple[str, ...] = ()
    cancelled: bool = False
    incidents: tuple[str, ...] = ()
    """Lines with an open incident."""


class Net(Struct, frozen=True, kw_only=True):
    """What the ledger says the order brings."""

    gross: Money
    refunded: Money
    commission: Money
    commission_tax: Money
    fees: Money
    operator_remitted_tax: Money
    net: Money
    as_of: datetime

    @classmethod
    def of(cls, event: OrderNetChanged) -> Net:
        """The figures of an event."""
        return cls(**{name: getattr(event, name) for name in cls.__struct_fields__})


class SfccState(Struct, frozen=True, kw_only=True):
    """What the SFCC order is to show beside what it was created with."""

    shipping: Literal["not_shipped", "part_shipped", "shipped"] = "not_shipped"
    net: Net | None = None
    reference: str | None = None
    """The seller's own number for the order, as the marketplace shows it."""


class Problem(Struct, frozen=True, kw_only=True):
    """Why an order waits for a person: the case's code and its cause, shared by all that wait for the same."""

    code: str
    cause: str
    facts: dict[str, str] = field(default_factory=dict)


class Known(Struct, frozen=True, kw_only=True):
    """One order as our table has it."""

    facts: OrderFacts
    version: int
    read_at: datetime
    told: Told
    stage: Stage
    problems: tuple[Problem, ...] = ()
    accepted: bool = False
    sfcc: SfccState = SfccState()
    site: str | None = None
    sfcc_order_no: str | None = None
    linked: bool = False
    erased: bool = False
    traceparent: str | None = None


class Product(Struct, frozen=True):
    """What an offer sells."""

    product_id: str
    pack_quantity: int = 1


Products = Mapping[str, Product]
"""By shop SKU."""
