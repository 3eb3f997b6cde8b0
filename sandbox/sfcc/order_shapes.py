"""What an orders call may send: the request schemas of the Orders OpenAPI document 1.5, restated as shapes."""

from __future__ import annotations

from sandbox.sfcc.shapes import Instant, ListOf, Number, Record, Text

__all__ = ["ADDRESS_UPDATE", "CREATE_ORDER", "OMS_EVENT", "order_patch", "status_of"]

# A double may be larger; no sum of money is, and a Decimal of cents must hold it.
MONEY = Number(smallest=-(10**13), largest=10**13)
T256 = Text(longest=256)
ID = Text(shortest=1, longest=256)

CHANNELS = (
    "storefront", "callcenter", "marketplace", "dss", "store", "pinterest", "twitter", "facebookads", "subscriptions",
    "onlinereservation", "customerservicecenter", "instagramcommerce", "tiktok", "snapchat", "google", "whatsapp",
    "youtube",
)  # fmt: skip

_ADDRESS_MEMBERS = dict.fromkeys(
    (
        "address1", "address2", "city", "companyName", "firstName", "fullName", "jobTitle", "lastName", "phone",
        "postBox", "postalCode", "salutation", "secondName", "stateCode", "suffix", "suite", "title",
    ),
    T256,
) | {"countryCode": Text(pattern="[A-Z][A-Z]")}  # fmt: skip
_ADDRESS = Record(_ADDRESS_MEMBERS, extras="c_", attributes_of=("OrderAddress",))
ADDRESS_UPDATE = _ADDRESS

_ADJUSTMENT = Record(
    {
        "amount": MONEY,
        "basePrice": MONEY,
        "grossPrice": MONEY,
        "itemText": Text(),
        "netPrice": MONEY,
        "reasonCode": Text(shortest=1, longest=256),
        "tax": MONEY,
        "taxBasis": MONEY,
    },
    required=("grossPrice", "netPrice", "tax"),
    extras="c_",
    attributes_of=("PriceAdjustment",),
)
_ADJUSTMENTS = ListOf(_ADJUSTMENT, most=20)
_TAX_ITEM = Record(
    {"id": ID, "rate": MONEY, "value": MONEY}, required=("id", "rate"), extras="c_", attributes_of=("TaxItem",)
)
_OPTION = Record(
    {
        "basePrice": MONEY,
        "grossPrice": MONEY,
        "itemText": T256,
        "netPrice": MONEY,
        "tax": MONEY,
        "taxBasis": MONEY,
        "optionId": ID,
        "optionValueId": ID,
        "priceAdjustments": _ADJUSTMENTS,
        "productId": Text(shortest=1, longest=100),
    },
    required=("basePrice", "grossPrice", "netPrice", "tax", "optionId", "optionValueId", "productId"),
    extras="c_",
    attributes_of=("ProductLineItem",),
)
_LINE = Record(
    {
        "basePrice": MONEY,
        "brand": T256,
        "grossPrice": MONEY,
        "itemText": T256,
        "netPrice": MONEY,
        "optionItems": ListOf(_OPTION, most=10),
        "priceAdjustments": _ADJUSTMENTS,
        "productId": Text(shortest=1, longest=100),
        "productName": T256,
        "quantity": Number(smallest=0, largest=10**9),
        "shipmentId": ID,
        "tax": MONEY,
        "taxBasis": MONEY,
        "taxItems": ListOf(_TAX_ITEM, most=10),
        "taxRate": MONEY,
    },
    required=("basePrice", "grossPrice", "netPrice", "productId", "quantity", "shipmentId", "tax"),
    extras="c_",
    attributes_of=("ProductLineItem",),
)
_SHIPMENT = Record(
    {
        "shipmentId": ID,
        "shippingMethod": T256,
        "shippingAddress": _ADDRESS,
        "shippingTotal": MONEY,
        "taxTotal": MONEY,
    },
    required=("shipmentId", "shippingMethod", "shippingAddress", "shippingTotal", "taxTotal"),
    extras="c_",
    attributes_of=("Shipment",),
)
_TRANSACTION = Record(
    {
        "amount": MONEY,
        "authorizationStatus": Record(
            {"code": T256, "message": T256, "status": Number(smallest=0, largest=2, whole=True)}
        ),
        "transactionId": T256,
    },
    required=("amount", "transactionId"),
    extras="c_",
    attributes_of=("PaymentTransaction",),
)
_PAYMENT = Record(
    {"paymentMethodId": T256, "paymentTransaction": _TRANSACTION},
    required=("paymentMethodId",),
    extras="c_",
    attributes_of=("OrderPaymentInstrument",),
)

CREATE_ORDER = Record(
    {
        "billingAddress": _ADDRESS,
        "businessType": Text(choices=("b2c", "b2b")),
        "channelType": Text(choices=CHANNELS),
        "currency": Text(pattern="[A-Z][A-Z][A-Z]|N/A"),
        "customerLocale": T256,
        "orderNo": Text(shortest=1, longest=50),
        "orderPriceAdjustments": _ADJUSTMENTS,
        "orderTotal": MONEY,
        "paymentInstruments": ListOf(_PAYMENT, most=20),
        "paymentStatus": Text(choices=("paid", "not_paid")),
        "productItems": ListOf(_LINE, fewest=1, most=200),
        "shipments": ListOf(_SHIPMENT, fewest=1, most=10),
        "taxTotal": MONEY,
    },
    required=(
        "billingAddress", "currency", "orderTotal", "paymentInstruments", "productItems", "shipments", "taxTotal",
    ),
    extras="c_",
    attributes_of=("Basket", "Order"),
)  # fmt: skip

_OMS_LINE = Record({"id": ID, "quantity": Number(smallest=0, whole=True)}, required=("id", "quantity"))
_FULFILMENT = Record(
    {
        "id": ID,
        "occurredAt": Instant(),
        "type": ID,
        "lineItems": ListOf(_OMS_LINE, fewest=1, most=200),
        "trackingNumber": ID,
        "trackingUrl": Text(shortest=1, longest=2048),
        "carrier": ID,
        "description": ID,
    },
    required=("id", "occurredAt", "type", "lineItems"),
)
_OMS_ADJUSTMENT = Record(
    {
        "id": ID,
        "type": ID,
        "occurredAt": Instant(),
        "status": Text(choices=("pending", "completed", "failed")),
        "lineItems": ListOf(Record({"id": ID, "quantity": Number(whole=True)}, required=("id", "quantity")), most=200),
        "totals": ListOf(
            Record({"type": ID, "amount": Number(whole=True), "displayText": ID}, required=("type", "amount")), most=200
        ),
        "description": ID,
    },
    required=("id", "type", "occurredAt", "status"),
)
OMS_EVENT = Record(
    {"omsOrderId": ID, "fulfillmentEvent": _FULFILMENT, "adjustment": _OMS_ADJUSTMENT},
    one_of=("fulfillmentEvent", "adjustment"),
)


def order_patch(system_object: str) -> Record:
    """A PATCH that sets custom attributes of a system object and nothing else."""
    return Record({}, extras="c_", attributes_of=(system_object,))


def status_of(*choices: str) -> Record:
    """A body that states a status."""
    return Record({"status": Text(choices=choices) if choices else ID}, required=("status",))
