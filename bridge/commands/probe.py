"""`bridge probe`: questions that only a real instance can answer."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import typer

from bridge.commands.places import Json, run
from services.order_ingestor.__main__ import SCOPES
from shared.clients import sfcc_client
from shared.clock import ManualClock
from shared.configuration import Sfcc
from shared.errors import Fatal
from shared.http import open_session
from shared.operations import OpenGate
from shared.settings import load
from shared.sfcc.orders import (
    NewAddress,
    NewOrder,
    NewPaymentInstrument,
    NewPaymentTransaction,
    NewProductItem,
    NewShipment,
)
from shared.topics import INGESTOR

app = typer.Typer(help="Ask an instance that is not in production how it behaves.", no_args_is_help=True)

ALIAS: Final = "bridge-probe@example.com"
PRICE: Final = Decimal("1.00")


@app.callback()
def probes() -> None:
    """Ask an instance that is not in production how it behaves."""


@app.command()
def email(
    site: Annotated[
        str | None, typer.Option(help="The site to place the order in; the first one unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Place one order with a token of its own, say whether it carries the token's address, and cancel it."""
    found = run(probe_email(load(INGESTOR).sfcc, site))
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"order {found['order_no']} in {found['site']}: placed, {'cancelled' if found['cancelled'] else 'open'}")
    if found["honours"] == "token":
        typer.secho('the order carries the token\'s address: order_email = "token" works here', fg="green")
    else:
        typer.secho(
            'the order does not carry the token\'s address: keep order_email = "attribute" and use the template of '
            "deploy/sfcc",
            fg="yellow",
        )


async def probe_email(sfcc: Sfcc, site: str | None) -> dict[str, Any]:
    """What the instance made of one order.

    Raises:
        Fatal: it is in production, or has no such site.
        BridgeError: it does not answer, or refuses.
    """
    if sfcc.production:
        raise Fatal("a probe places an order: set sfcc.production = false in the settings of an instance for tests")
    name = site or next(iter(sfcc.sites))
    if name not in sfcc.sites:
        raise Fatal(f"there is no site {name} in [sfcc.sites]: known are {', '.join(sfcc.sites)}")
    async with open_session() as session:
        # Tokens are used at once, so their life needs no clock that runs.
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        client = sfcc_client(session, sfcc, name, OpenGate(), clock, scopes=SCOPES)
        order_no = await client.create_order(probe_order(sfcc, name), email=ALIAS)
        shown = await client.read_order(order_no)
        await client.set_order_status(order_no, "status", "cancelled", purpose="interactive")
        after = await client.read_order(order_no)
    address = shown.customer_info.email if shown.customer_info else None
    return {
        "site": name,
        "order_no": order_no,
        "honours": "token" if address == ALIAS else "attribute",
        "guest": shown.customer_info.guest if shown.customer_info else None,
        "cancelled": after.status == "cancelled",
    }


def probe_order(sfcc: Sfcc, site: str) -> NewOrder:
    """One piece of nothing for one unit of the site's currency."""
    settings = sfcc.sites[site]
    address = NewAddress(first_name="Bridge", last_name="Probe", address1="1 Test Street", city="Test")
    methods = (settings.default_shipping_method, *settings.shipping_methods.values())
    item = NewProductItem(
        product_id="bridge-probe",
        quantity=1,
        base_price=PRICE,
        net_price=PRICE,
        gross_price=PRICE,
        tax=Decimal(0),
        shipment_id="probe",
    )
    return NewOrder(
        order_no=f"bridge-probe-{uuid.uuid4().hex[:12]}",
        currency=settings.currencies[0],
        order_total=PRICE,
        tax_total=Decimal(0),
        billing_address=address,
        product_items=(item,),
        shipments=(
            NewShipment(
                shipment_id="probe",
                shipping_method=next((one for one in methods if one), "probe"),
                shipping_address=address,
                shipping_total=Decimal(0),
                tax_total=Decimal(0),
            ),
        ),
        payment_instruments=(
            NewPaymentInstrument(
                payment_method_id=settings.payment_method,
                payment_transaction=NewPaymentTransaction(amount=PRICE, transaction_id="bridge-probe"),
            ),
        ),
    )
