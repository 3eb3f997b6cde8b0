"""Every call to SFCC that we can make: how it may be repeated and how long it may take.

No rates are published but the token service's: what is too much answers 429 or 503, which the gate obeys. The load
of the realm is told by the Commerce API (`sfdc_load_status`), not by the token services or Omnichannel Inventory,
which have limits of their own, nor by the file server. Admin calls are cut at 60 seconds by Salesforce's own
gateway, which says so with 504; ours wait a little longer.
"""

from __future__ import annotations

from typing import Final

from shared.operations import CallRate, Operation, Repeat


def _declare(
    name: str,
    repeat: Repeat,
    *,
    seconds: float = 65.0,
    rates: tuple[CallRate, ...] = (),
    tells_load: bool = False,
) -> Operation:
    return Operation(name, "sfcc", repeat, timeout_seconds=seconds, rates=rates, tells_load=tells_load)


# Tokens. A token that nobody got is no effect.
GET_ADMIN_TOKEN: Final = _declare("getAccessToken", "reading", seconds=20)
GET_SHOPPER_TOKEN: Final = _declare(
    "getTrustedSystemAccessToken", "reading", seconds=20, rates=(CallRate(24_000, 60.0),)
)

# Orders
CREATE_ORDERS: Final = _declare("createOrders", "guarded", tells_load=True)
GET_ORDER: Final = _declare("getOrder", "reading", tells_load=True)
GET_ORDERS: Final = _declare("getOrders", "reading", tells_load=True)
UPDATE_ORDER: Final = _declare("updateOrder", "overwriting", tells_load=True)
UPDATE_ORDER_STATUS: Final = _declare("updateOrderStatus", "overwriting", tells_load=True)
UPDATE_ORDER_CONFIRMATION_STATUS: Final = _declare("updateOrderConfirmationStatus", "overwriting", tells_load=True)
UPDATE_ORDER_EXPORT_STATUS: Final = _declare("updateOrderExportStatus", "overwriting", tells_load=True)
UPDATE_ORDER_EXTERNAL_STATUS: Final = _declare("updateOrderExternalStatus", "overwriting", tells_load=True)
UPDATE_ORDER_PAYMENT_STATUS: Final = _declare("updateOrderPaymentStatus", "overwriting", tells_load=True)
UPDATE_ORDER_SHIPPING_STATUS: Final = _declare("updateOrderShippingStatus", "overwriting", tells_load=True)

# Omnichannel inventory. A reservation has our own id: the same document again changes nothing.
GET_AVAILABILITY: Final = _declare("getAvailability", "reading", seconds=30)
CREATE_DELTA_TOKEN: Final = _declare("createDeltaToken", "reading", seconds=30)
GET_DELTAS: Final = _declare("getDeltas", "reading")
EXPORT_AVAILABILITY: Final = _declare("exportAvailability", "reading", seconds=30)
GET_EXPORT_STATUS: Final = _declare("getExportStatus", "reading", seconds=30)
GET_EXPORT_FILE: Final = _declare("getExportFile", "reading", seconds=900)
PUT_RESERVATION: Final = _declare("putReservation", "overwriting", seconds=30)
CANCEL_RESERVATION: Final = _declare("cancelReservation", "overwriting", seconds=30)

# Products
GET_PRODUCT: Final = _declare("getProduct", "reading", tells_load=True)
SEARCH_PRODUCTS: Final = _declare("searchProducts", "reading", tells_load=True)

# Jobs and files. A job runs once at a time, and an export that runs twice exports twice.
RUN_JOB: Final = _declare("runJob", "overwriting", tells_load=True)
GET_JOB_EXECUTION: Final = _declare("getJobExecution", "reading", tells_load=True)
GET_FILE: Final = _declare("getFile", "reading", seconds=900)

OPERATIONS: Final[dict[str, Operation]] = {
    value.name: value for value in list(vars().values()) if isinstance(value, Operation)
}
"""All of them by name."""
