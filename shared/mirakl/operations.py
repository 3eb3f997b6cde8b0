"""Every call to Mirakl that we can make: how it may be repeated, how often it may be called, how long it may take.

The rates are the published maxima (Mirakl's seller API reference, "call frequency"). Reports that are only
asked for (OF52, OR13, TL03) change nothing at the marketplace: they are readings.
"""

from __future__ import annotations

from typing import Final

from shared.operations import CallRate, Operation, Repeat

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def _declare(
    name: str,
    repeat: Repeat,
    *rates: tuple[int, float],
    partner: tuple[int, float] | None = None,
    seconds: float = 30.0,
    pages_count: bool = True,
    per_object: bool = False,
) -> Operation:
    return Operation(
        name,
        "mirakl",
        repeat,
        timeout_seconds=seconds,
        rates=tuple(CallRate(*rate) for rate in rates),
        partner_rates=(CallRate(*partner),) if partner else None,
        pages_count=pages_count,
        per_object=per_object,
    )


# The platform and the shop
A01: Final = _declare("A01", "reading", (1, _DAY))
A21: Final = _declare("A21", "reading", (1, _DAY))
PC01: Final = _declare("PC01", "reading")
V01: Final = _declare("V01", "reading")
SH21: Final = _declare("SH21", "reading", (1, _DAY))
RE01: Final = _declare("RE01", "reading")
CUR01: Final = _declare("CUR01", "reading", (1, _DAY))
AF01: Final = _declare("AF01", "reading", (1, _DAY))
CH11: Final = _declare("CH11", "reading", (1, _DAY))

# Products
H11: Final = _declare("H11", "reading", (1, _HOUR), seconds=120)
PM11: Final = _declare("PM11", "reading", (1, _HOUR), seconds=120)
VL11: Final = _declare("VL11", "reading", (1, _HOUR), seconds=120)
P31: Final = _declare("P31", "reading")
P41: Final = _declare("P41", "overwriting", (1, 15 * _MINUTE), seconds=120)
P42: Final = _declare("P42", "reading", (1, _MINUTE), per_object=True)

# Offers, prices and stock
OF01: Final = _declare("OF01", "overwriting", (1, _MINUTE), seconds=120)
OF02: Final = _declare("OF02", "reading", (1, _MINUTE), per_object=True)
OF03: Final = _declare("OF03", "reading", (1, _MINUTE), seconds=300, per_object=True)
OF21: Final = _declare("OF21", "reading")
OF24: Final = _declare("OF24", "overwriting", (1, _MINUTE), seconds=60)
OF52: Final = _declare("OF52", "reading", (1, _MINUTE))
OF53: Final = _declare("OF53", "reading", (1, 10.0), per_object=True)
OF54: Final = _declare("OF54", "reading", seconds=900)
OF61: Final = _declare("OF61", "reading", (1, _DAY))
PRI01: Final = _declare("PRI01", "overwriting", (1, _MINUTE), seconds=120)
PRI02: Final = _declare("PRI02", "reading", (1, _MINUTE))
PRI03: Final = _declare("PRI03", "reading", (1, _MINUTE), seconds=300, per_object=True)
STO01: Final = _declare("STO01", "overwriting", (1, _MINUTE), seconds=120)
STO02: Final = _declare("STO02", "reading", (1, 15.0), per_object=True)
STO03: Final = _declare("STO03", "reading", (1, _MINUTE), seconds=300, per_object=True)

# Orders
OR04: Final = _declare("OR04", "overwriting", (1, _MINUTE))
OR11: Final = _declare("OR11", "reading", (1, _MINUTE), partner=(1, 15 * _MINUTE), seconds=60)
OR13: Final = _declare("OR13", "reading", (1, 5 * _MINUTE))
OR14: Final = _declare("OR14", "reading", (1, 2.0), per_object=True)
OR15: Final = _declare("OR15", "reading", seconds=900)
OR21: Final = _declare("OR21", "guarded")
OR23: Final = _declare("OR23", "overwriting")
OR24: Final = _declare("OR24", "guarded")
OR28: Final = _declare("OR28", "unguarded")
OR29: Final = _declare("OR29", "guarded")
OR30: Final = _declare("OR30", "unguarded")
OR31: Final = _declare("OR31", "overwriting", (5, 1.0))

# Shipments
ST01: Final = _declare("ST01", "unguarded", seconds=60)
ST11: Final = _declare("ST11", "reading")
ST23: Final = _declare("ST23", "overwriting", seconds=60)
ST24: Final = _declare("ST24", "guarded", seconds=60)

# Money
IV01: Final = _declare("IV01", "reading", (1, _DAY), pages_count=False, seconds=60)
SBC11: Final = _declare("SBC11", "reading", (1, _DAY), pages_count=False, seconds=60)
TL02: Final = _declare("TL02", "reading", (20, _MINUTE), (60, _HOUR), seconds=60)
TL03: Final = _declare("TL03", "reading", (1, _DAY))
TL04: Final = _declare("TL04", "reading", (1, 10.0), per_object=True)
TL05: Final = _declare("TL05", "reading", seconds=900)

OPERATIONS: Final[dict[str, Operation]] = {
    value.name: value for value in list(vars().values()) if isinstance(value, Operation)
}
"""All of them by name."""
