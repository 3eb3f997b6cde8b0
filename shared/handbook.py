"""The operator handbook's entries: what every case code means, whose it is, and what to do.

A case may only be opened under a code that has its entry here, so the handbook is complete by
construction. `python -m shared.handbook` writes docs/handbook.md from it, `--check` compares.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.events.cases import Severity

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "handbook.md"


@dataclass(frozen=True, slots=True)
class Entry:
    """One case code."""

    code: str
    title: str
    """What a person reads first, without names of objects."""
    meaning: str
    owner_team: str
    severity: Severity
    """Unless the one who opens the case knows better."""
    steps: tuple[str, ...]
    closes: str
    """What closes the case."""
    by_hand: bool = False
    """Whether a person may close it with an explanation: where the bridge may never learn that it is done. Not
    where something waits for its cause, which would go on waiting unseen."""


_ENTRIES: Final = (
    Entry(
        code="obligation-unknown",
        title="Nobody knows whether a call had its effect",
        meaning=(
            "A call that may not be repeated, such as a refund, left and its answer was lost, or the process that "
            "made it left no record of its end. Sending it again could do it twice, so nothing more is sent."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Open the object in the remote system's own back office and look whether the effect is there. Wait for "
            "the quiet period named in the case first: it may still arrive.",
            "It is there: settle the obligation as happened.",
            "It is not there: settle it as did-not-happen, and it is sent again.",
            "It is not wanted any more: settle it as give-up.",
        ),
        closes="The settlement, or a late answer of the remote system.",
    ),
    Entry(
        code="obligation-given-up",
        title="Something we owe was refused, or could not be done in time",
        meaning=(
            "The remote system refused the call for good, or it failed until its deadline came too close or its "
            "retries were used up. The reason of every attempt is kept with the obligation."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Read the reason in the case, and the attempts of the obligation.",
            "Put the cause right, or do by hand in the remote system's back office what was owed.",
            "Settle the obligation: happened when you did it by hand, did-not-happen to let it be sent again, "
            "give-up when it is not wanted any more.",
        ),
        closes="The settlement.",
    ),
    Entry(
        code="shop-unreachable",
        title="A remote account does not answer, or refuses us",
        meaning=(
            "What the title names is closed off, and nothing else. An account (a shop, or the SFCC instance) failed "
            "several times in a row: all stages wait for it. A key was refused (401): the stages that send this key "
            "wait. An operation is not permitted (403): what one service owes by it waits, its polls ask again at "
            "their own pace. One probe at a time is sent, and after an outage few calls at first."
        ),
        owner_team="operations",
        severity="critical",
        steps=(
            "With the fact `key`: it is the setting of the refused key, such as "
            "marketplaces.worten-pt.shops.2001.api_keys.finance-ledger or sfcc.client_secret. Generate a key in the "
            "back office (or Account Manager, or SLAS) and put it where the setting's reference points; no restart "
            "is needed.",
            "With `operation` alone: give the role or scope that the operation needs to the key's user or client. "
            "The key itself is good.",
            "Otherwise look at the remote system's status page. What is owed waits, earliest deadline first.",
        ),
        closes="The first call that succeeds with what was closed off: the account, the key, the operation.",
    ),
    Entry(
        code="order-sku-unmapped",
        title="An order holds an SKU that sells no known product",
        meaning=(
            "The order is paid and to be shipped, but nobody knows which SFCC product one of its offers sells, so "
            "it is not created in SFCC. Its shipping deadline runs."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look the shop SKU up in the marketplace's back office: product, EAN, pack size.",
            "Map it in the control room to its SFCC product, with the number of pieces in a pack.",
            "All orders that wait for it go on by themselves within seconds.",
        ),
        closes="The mapping, or the order's cancellation.",
    ),
    Entry(
        code="order-state-unknown",
        title="A marketplace shows an order in a state that is new",
        meaning=(
            "Mirakl adds states without notice. The order is kept and goes on being read, but nothing is done for "
            "it until it is in a state whose meaning is known."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Ask the marketplace what the state means and what it expects of the shop.",
            "If it stays, the bridge has to learn it: tell the developers, with the state's name.",
            "Meanwhile handle the order in the marketplace's back office.",
        ),
        closes="The next state that is known.",
    ),
    Entry(
        code="order-currency-unknown",
        title="An order is in a currency that its marketplace is not set up for",
        meaning=(
            "Amounts in a currency that nobody expects are never taken for others. The order is kept and not "
            "created in SFCC."
        ),
        owner_team="finance",
        severity="high",
        steps=(
            "Check with the marketplace whether it sells in this currency now.",
            "Add it to the marketplace's and the site's currencies, where SFCC sells in it too, and restart the "
            "services.",
        ),
        closes="The setting, at the next start, or the order's cancellation.",
    ),
    Entry(
        code="order-tax-unknown",
        title="An order does not say whether its prices hold the tax",
        meaning=(
            "The order's tax mode is missing or new. A guess would be wrong in every amount, so the order is not "
            "created in SFCC."
        ),
        owner_team="finance",
        severity="high",
        steps=(
            "Compare the order in the marketplace's back office with an older one: are prices shown with tax?",
            "Ask the marketplace for the mode, and tell the developers its name if it is a new one.",
        ),
        closes="The next version of the order with a mode that is known.",
    ),
    Entry(
        code="order-address-missing",
        title="An order is to be shipped but shows no address",
        meaning=(
            "Marketplaces hide addresses until an order is accepted or paid. This one says that it is to be "
            "shipped and still shows none."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Open the order in the marketplace's back office: is there an address?",
            "If there is none, ask the operator. The order goes on by itself as soon as it is shown.",
        ),
        closes="The address, or the order's cancellation.",
    ),
    Entry(
        code="order-country-unknown",
        title="An order goes to a country that has no known code",
        meaning="SFCC wants a country's two letters; the marketplace sent something that ISO 3166 does not know.",
        owner_team="operations",
        severity="high",
        steps=(
            "Look at the address in the marketplace's back office.",
            "Map the country as sent to its two letters in the control room, kind country.",
        ),
        closes="The mapping, or a corrected address.",
    ),
    Entry(
        code="order-shipping-type-unmapped",
        title="An order has a shipping type without an SFCC shipping method",
        meaning="The settings name no SFCC shipping method for this shipping type of the marketplace, and no default.",
        owner_team="operations",
        severity="high",
        steps=(
            "Find the shipping type on the marketplace's list (SH21) and decide which of SFCC's methods it is.",
            "Add it to shipping_methods of the site, or set default_shipping_method, and restart the services.",
        ),
        closes="The setting, at the next start.",
    ),
    Entry(
        code="order-beyond-sfcc-limits",
        title="An order is larger than SFCC takes",
        meaning=(
            "createOrders takes at most 200 lines and 10 shipments. This order has more and cannot be created as one."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Enter the order by hand in SFCC, or have it sent without SFCC.",
            "Announce its shipment in the marketplace's back office.",
        ),
        closes="The order's cancellation or completion.",
    ),
    Entry(
        code="order-totals-differ",
        title="An order's total is not the same on both sides",
        meaning=(
            "The lines do not add up to the total that the marketplace shows, or SFCC shows another total or tax "
            "than it was sent. Amounts are compared to the cent."
        ),
        owner_team="finance",
        severity="high",
        by_hand=True,
        steps=(
            "Compare the figures in the case.",
            "If SFCC's differ, look for a hook or a rounding in the instance that changes orders of this channel.",
            "If the marketplace's differ, ask it which figure it pays.",
        ),
        closes="A version that adds up, or SFCC once it shows the same, which is looked at every hour; else a person.",
    ),
    Entry(
        code="order-refused-by-sfcc",
        title="SFCC refused to create an order",
        meaning=(
            "createOrders was refused for good and SFCC has no order under its number. The order is paid and "
            "waits; its shipping deadline runs."
        ),
        owner_team="integration",
        severity="critical",
        steps=(
            "Read the reason: an unknown custom attribute means that the metadata of deploy/sfcc is not imported.",
            "Put the cause right in SFCC or in the settings.",
            "Settle the obligation as did-not-happen: the order is sent again. Or enter it by hand under the number in "
            "the case and settle it as happened.",
        ),
        closes="The settlement, a newer version of the order, or its cancellation.",
    ),
    Entry(
        code="order-unreadable",
        title="A marketplace sent an order that cannot be read",
        meaning=(
            "The order lacks something that no order can do without, or holds text that is none. It is kept as it "
            "came, its neighbours go on, and it is read again at every poll."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Open the order in the marketplace's back office and handle it there if it is urgent.",
            "Tell the developers the reason in the case; the raw order is kept in the table unreadable_orders.",
        ),
        closes="A version of the order that can be read.",
    ),
    Entry(
        code="order-shipped-elsewhere",
        title="An order was shipped before SFCC had it",
        meaning=(
            "The marketplace shows the order as shipped although the bridge never created it in SFCC. Creating it "
            "now would have it sent a second time."
        ),
        owner_team="operations",
        severity="normal",
        by_hand=True,
        steps=(
            "Find out who announced the shipment, and whether stock was booked for it.",
            "Book the sale in SFCC or the ERP by hand where that is needed.",
        ),
        closes="The order's end at the marketplace, or a person, once the sale is booked.",
    ),
    Entry(
        code="order-cancelled-while-shipped",
        title="An order was cancelled at the marketplace but SFCC has sent it",
        meaning="Both facts are true and no rule says which holds. Nothing was changed in SFCC.",
        owner_team="operations",
        severity="critical",
        by_hand=True,
        steps=(
            "Call the warehouse: can the parcel be stopped?",
            "If so, cancel the order in SFCC. If not, ask the marketplace to take the cancellation back or agree "
            "on a return.",
        ),
        closes="Both sides, once they agree: SFCC is looked at every hour.",
    ),
    Entry(
        code="order-partly-cancelled",
        title="Part of an order was cancelled after SFCC had it",
        meaning=(
            "An SFCC order keeps the quantities it was created with, so the warehouse may still pack the part that "
            "is off. What the buyer pays is less by it."
        ),
        owner_team="operations",
        severity="high",
        by_hand=True,
        steps=(
            "Tell the warehouse to leave out the quantities in the case.",
            "Correct the order in SFCC or in the system that sends it, where that is possible.",
            "If it is packed already, agree with the marketplace on a return.",
        ),
        closes="A person; or SFCC's order, once the rest is cancelled too.",
    ),
    Entry(
        code="sfcc-order-not-updated",
        title="SFCC refused a change of an order",
        meaning=(
            "Attributes or a status that the SFCC order should show were refused for good: it may have been "
            "changed or locked there."
        ),
        owner_team="integration",
        severity="normal",
        by_hand=True,
        steps=(
            "Read the reason in the case.",
            "Set the value by hand in Business Manager, or put the cause right: within the hour, or with the next "
            "change, all that lacks is sent again.",
        ),
        closes="The first update that SFCC takes, or finds nothing to change.",
    ),
    Entry(
        code="order-not-linked",
        title="A marketplace refused SFCC's order number",
        meaning=(
            "The order number could not be written to the order (OR04). The order itself is not in danger; it is "
            "tried again every quarter of an hour."
        ),
        owner_team="operations",
        severity="low",
        by_hand=True,
        steps=(
            "Read the reason in the case. An anonymised or very old order takes no number any more: then nothing "
            "is to be done.",
        ),
        closes="A person, or the number once it is shown.",
    ),
    Entry(
        code="order-count-differs",
        title="The daily count of orders differs",
        meaning=(
            "The marketplace lists more or fewer orders of the last days than the bridge has taken in, although "
            "the count took in what was missing."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Compare the figures in the case with the marketplace's own list.",
            "Look for cases about unreadable orders of this shop.",
            "Tell the developers if the difference is still there the next day.",
        ),
        closes="The next count that agrees.",
    ),
    Entry(
        code="acceptance-sku-unmapped",
        title="An order waits for its answer with an SKU that sells no known product",
        meaning=(
            "The order must be accepted or refused before its deadline, but nobody knows which SFCC product one of "
            "its offers sells, so no stock can be proven for it."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look the shop SKU up in the marketplace's back office: product, EAN, pack size.",
            "Map it in the control room to its SFCC product, with the number of pieces in a pack. All orders that "
            "wait for it are answered by themselves within seconds.",
            "If it cannot be mapped in time, answer the order by hand in the control room.",
        ),
        closes="The mapping, an answer by hand, or the order's end at the marketplace.",
    ),
    Entry(
        code="acceptance-stock-short",
        title="An order waits for its answer and SFCC has too little stock for it",
        meaning=(
            "OCI could reserve less than the order needs. What it had is held for the order; it is asked again when "
            "newer stock is seen, and every few minutes."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Compare the figures in the case with the warehouse: is the stock in SFCC right?",
            "If there is more, correct it in SFCC: the order is then accepted by itself.",
            "If there is none, refuse the order, or its short lines where the marketplace allows it, in the control "
            "room. A refusal costs less than a time-out.",
        ),
        closes="Enough stock, an answer by hand, or the order's end at the marketplace.",
    ),
    Entry(
        code="acceptance-stock-unproven",
        title="An order's last minutes have come and its stock is not proven",
        meaning=(
            "SFCC gives no answer and no fresh stock figure proves the order. The shop's policy is not to answer "
            "without proof, so a person has to."
        ),
        owner_team="operations",
        severity="critical",
        steps=(
            "Ask the warehouse whether the goods are there.",
            "Accept or refuse the order in the control room, or in the marketplace's back office, before the deadline.",
        ),
        closes="SFCC's answer, an answer by hand, or the order's end at the marketplace.",
    ),
    Entry(
        code="acceptance-answer-refused",
        title="A marketplace refused the answer to an order",
        meaning=(
            "The marketplace still shows the order as waiting for its answer and would not take ours. The reason is "
            "in the case."
        ),
        owner_team="operations",
        severity="critical",
        steps=(
            "Read the reason: an order that the operator fulfils, for example, is not the shop's to answer.",
            "Answer the order in the marketplace's back office, or again in the control room.",
        ),
        closes="An answer by hand, or the order's end at the marketplace.",
    ),
    Entry(
        code="acceptance-late",
        title="An order's time to be answered runs out",
        meaning=(
            "Nothing about the order is in doubt, but the answer is not out: SFCC has not reserved its stock, or the "
            "marketplace has not taken the answer yet. Both are tried again all the time."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look for an open case about SFCC or the shop: its cause is probably the same.",
            "If the deadline comes near, answer the order in the marketplace's back office.",
        ),
        closes="The answer, or the order's end at the marketplace.",
    ),
    Entry(
        code="acceptance-reservation-refused",
        title="SFCC refused to reserve stock for an order",
        meaning=(
            "The reservation was refused for good, not for lack of stock: the location may be unknown or the client "
            "may lack the scope. The order is accepted only where a fresh stock figure proves it."
        ),
        owner_team="integration",
        severity="critical",
        steps=(
            "Read the reason and put the cause right in SFCC or in the settings.",
            "Settle the obligation as did-not-happen: the reservation is tried again.",
            "If the deadline comes near, answer the order by hand.",
        ),
        closes="The reservation, the answer, or the order's end.",
    ),
    Entry(
        code="accepted-without-stock",
        title="An accepted order has no stock",
        meaning=(
            "The order was accepted, by the marketplace itself, by a person or while SFCC gave no answer, and OCI "
            "holds less than it needs. It is asked again when newer stock is seen, and every few minutes."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Find the goods: another warehouse, a delivery that is due before the shipping deadline.",
            "If there are none, cancel the order or the line at the marketplace before it is late.",
        ),
        closes="The reservation, or the order's cancellation.",
    ),
    Entry(
        code="stock-mass-zero",
        title="Much of a shop's stock would fall to zero at once",
        meaning=(
            "SFCC says that more of the shop's offers are sold out at once than its limit allows, as when an export "
            "arrives empty or for the wrong list. These zeros are held back and the marketplace shows what it showed "
            "before; single changes go on flowing, and every offer whose stock comes back is released by itself."
        ),
        owner_team="operations",
        severity="critical",
        steps=(
            "Look in SFCC whether the stock is really gone: location group, safety stock, the last import.",
            "It is gone: approve the hold, and all held zeros go out in the next minute. Be quick, since what is "
            "still on show can be bought.",
            "It is not gone: put the stock right in SFCC; the offers are released as the numbers come in. Discard the "
            "hold where they will not come.",
        ),
        closes="Your decision, or the return of the stock.",
    ),
    Entry(
        code="stock-line-rejected",
        title="A marketplace refused an offer's quantity",
        meaning=(
            "Mirakl worked a stock import through and refused this line, with the reason in the case. The offer shows "
            "what it showed before. All other lines of the import went through."
        ),
        owner_team="operations",
        severity="high",
        by_hand=True,
        steps=(
            "Read the reason. Mostly the offer does not exist at the marketplace: look there for its SKU.",
            "Create the offer, or take its mapping away where it is not to be sold there.",
            "The quantity goes out again with the offer's next change, or once the offer is seen at the marketplace.",
        ),
        closes=(
            "The first quantity of the offer that is taken, or a person, where it is not to be sold there. A case "
            "about an import stands for all its lines beyond the first 500 and closes with the last of them."
        ),
    ),
    Entry(
        code="stock-import-stuck",
        title="A stock import does not come to its end",
        meaning=(
            "Mirakl took a stock import and has not worked it through for a quarter of an hour. Newer quantities go "
            "on being sent; nothing of them is confirmed while Mirakl's queue stands. Or its report has lines without "
            "a SKU: then nobody knows which were refused, and all of the import goes out again, each time."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look at the imports in the marketplace's back office, and at the operator's status page.",
            "Ask the operator when it stays so. Consider closing the shop while quantities are not taken.",
        ),
        closes="The import's end, whatever it is: its lines are confirmed, refused, or sent again. Of reports without "
        "SKUs: the next import that names every line it refused.",
    ),
    Entry(
        code="stock-import-refused",
        title="A marketplace does not take a shop's stock files",
        meaning=(
            "The whole stock file was refused, with the reason in the case. It is sent again every minute with the "
            "quantities of then; until one is taken, the marketplace shows old stock."
        ),
        owner_team="integration",
        severity="critical",
        steps=(
            "Read the reason. A missing column or a wrong delimiter means that the operator's settings changed.",
            "Look whether the shop is open, and whether its user may import offers.",
        ),
        closes="The first file that is taken.",
    ),
    Entry(
        code="stock-source-stale",
        title="Stock is not read any more: what is on show grows old",
        meaning=(
            "A place of OCI could not be read, or an outside producer of stock said nothing, for longer than the "
            "settings allow (`stock.stale_after_minutes`, `stock.producers_stale_after_minutes`). Until its next word "
            "the offers of its places keep twice their buffer back; none falls to zero for that alone, and an offer "
            "without a buffer stays as it is. New orders are accepted only on stock that is proven all the same."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look for a case shop-unreachable about SFCC: then its steps come first. `bridge check --online` says what "
            "SFCC answers.",
            "An outside producer: ask its owner whether it still sends, and to the right topic.",
            "If it takes long and much is sold, raise the buffer of the shops (rule `stock`), or close them at the "
            "marketplace.",
        ),
        closes="The first successful read, or the producer's next word.",
    ),
    Entry(
        code="carrier-unmapped",
        title="A parcel's carrier is unknown to its marketplace",
        meaning=(
            "The warehouse names a carrier that neither the table of carriers nor the marketplace's own list (SH21) "
            "explains, so the parcel is not announced. Names are compared whatever their case and spaces; what a "
            "person set in the table comes first, then the list's standard codes, its codes and its labels. A parcel "
            "without any carrier stands in the table as `(none)`."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Find the carrier on the marketplace's list in the case; the likeliest stand first.",
            "Map the warehouse's word to its code in the control room. A carrier that is on no list can be mapped to "
            "its name, as not registered, with a link that holds {trackingId}, where the marketplace allows that.",
            "All parcels that wait for it are announced within seconds, those that left first before all others.",
        ),
        closes="The mapping, or a list that has the carrier.",
    ),
    Entry(
        code="carriers-unknown",
        title="A marketplace's list of carriers could not be read yet",
        meaning=(
            "Parcels wait although their carriers may be known: before the first reading of the list (SH21) and of the "
            "configuration (PC01) nobody knows how they are to be announced. Mirakl lets the list be read once a day "
            "and shop, so one answer that was lost on our side may block it for long."
        ),
        owner_team="operations",
        severity="high",
        steps=(
            "Look for a case shop-unreachable of the marketplace's shops: then its steps come first.",
            "Otherwise the list is read as soon as a shop may ask again. What cannot wait is shipped by hand in the "
            "marketplace's back office, with its tracking.",
        ),
        closes="The first reading.",
    ),
    Entry(
        code="carrier-gone",
        title="A carrier in use is no longer on the marketplace's list",
        meaning=(
            "The marketplace's list of carriers is read once a day, and again when it refuses a carrier that the list "
            "has; each shop may ask once a day. A carrier that parcels were announced with, or that the table maps "
            "to, was removed or renamed: parcels with it wait."
        ),
        owner_team="operations",
        severity="high",
        by_hand=True,
        steps=(
            "Read in the case what has changed on the list, and find the carrier's new code.",
            "Map the warehouse's word to it in the control room, before the next parcel leaves.",
        ),
        closes="The mapping, a list that has the carrier again, or a person, where no parcel goes by it any more.",
    ),
    Entry(
        code="shipment-without-tracking",
        title="A parcel has left without a tracking number",
        meaning=(
            "Nothing is announced without tracking unless a person says so: the buyer could not follow the parcel, and "
            "the marketplace counts it against the shop. The shipping deadline runs."
        ),
        owner_team="operations",
        severity="normal",
        steps=(
            "Ask the warehouse for the number; once it is known, the parcel is announced by itself.",
            "Where there is none, or the deadline is close: approve, and it is announced without. A number that "
            "comes later is still told to the marketplace.",
        ),
        closes="The number, or the decision.",
    ),
    Entry(
        code="shipment-refused",
        title="A marketplace refused a shipment or its tracking",
        meaning="The refusal and its reason stand in the case. The parcel has left, but its buyer is not told.",
        owner_team="operations",
        severity="high",
        steps=(
            "Read the reason, and look at the order in the marketplace's back office.",
            "Put the cause right: a corrected carrier or number is sent by itself.",
            "Otherwise approve to try again, or announce it by hand and discard.",
        ),
        closes="The decision, or an announcement that succeeds.",
    ),
    Entry(
        code="shipment-not-shown",
        title="A marketplace does not show what it was told of a shipment",
        meaning=(
            "The marketplace answered well, but an hour later it still does not show the shipment or its tracking. "
            "It is looked for all the time."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Look at the order in the marketplace's back office.",
            "If it does not show there either, ask the marketplace what became of the call.",
        ),
        closes="The marketplace, once it shows it.",
    ),
    Entry(
        code="parcel-of-cancelled-order",
        title="A parcel has left for an order that was cancelled",
        meaning="The marketplace shows the order as cancelled or refused: nothing can be announced or earned with it.",
        owner_team="customer-service",
        severity="high",
        steps=(
            "Try to stop the parcel at the carrier.",
            "Otherwise agree with the buyer and the marketplace on its return or its payment.",
            "Discard the hold: the parcel is not announced.",
        ),
        closes="The decision.",
    ),
    Entry(
        code="parcel-not-expected",
        title="A parcel holds what its order does not, or what others send",
        meaning=(
            "A line of the dispatch fits no line of the order, or the marketplace's operator sends the order itself. "
            "Nothing is announced on a guess."
        ),
        owner_team="operations",
        severity="normal",
        steps=(
            "Compare the parcel's contents with the order, and ask the warehouse.",
            "A dispatch that the warehouse sends again with the right lines is announced by itself.",
            "Otherwise discard the hold: the parcel is not announced.",
        ),
        closes="The corrected dispatch, or the decision.",
    ),
    Entry(
        code="parcel-withdrawn-late",
        title="A warehouse takes back a parcel that was announced",
        meaning="The marketplace already believes that the parcel left. Neither OR24 nor a shipment can be taken back.",
        owner_team="operations",
        severity="high",
        steps=(
            "Find out whether the parcel leaves later: then nothing is to be done but to hurry.",
            "Otherwise tell the marketplace and the buyer, and refund what is not sent.",
            "Discard the hold.",
        ),
        closes="The decision.",
    ),
    Entry(
        code="offer-sku-unmapped",
        title="An offer sells no known product",
        meaning=(
            "The marketplace shows an offer whose shop SKU is neither an SFCC product id nor a line of the SKU "
            "mapping. Its stock and price are not kept, and an order of it waits. Where SFCC has products with the EAN "
            "of the marketplace's product, the case names them. At most 200 offers of a shop are asked about at a time."
        ),
        owner_team="catalogue",
        severity="normal",
        steps=(
            "Look the shop SKU up in the marketplace's back office: product, EAN, pack size.",
            "Map it in the control room to its SFCC product, with the number of pieces in a pack.",
            "Where it is not to be sold any more, delete the offer at the marketplace.",
        ),
        closes="The mapping, a product of that very id in SFCC, or the end of the offer.",
    ),
    Entry(
        code="payout-not-reconciled",
        title="A payout is not what its transactions add up to",
        meaning=(
            "The amount that Mirakl paid for a billing cycle differs from the sum of the cycle's transaction lines, "
            "and the difference has no name, or one that somebody has to look at: a type that nobody knows, an order "
            "that was never captured, a manual credit or invoice outside the cycle, another currency."
        ),
        owner_team="finance",
        severity="high",
        by_hand=True,
        steps=(
            "Read paid, lines and difference in the case, and the cycle's page in the control room.",
            "Compare with the cycle's invoice and its transaction log in the marketplace's back office.",
            "An unknown type: map it to an account. A missing order: have it read again (backfill).",
            "Where the marketplace is wrong, ask the operator for a correction: it comes as a line of its own.",
        ),
        closes="The first comparison that agrees, or a person, once the difference is explained.",
    ),
    Entry(
        code="payout-failed",
        title="A payout did not reach the bank",
        meaning="Mirakl shows the payout of a billing cycle as failed; the reason is in the case.",
        owner_team="finance",
        severity="high",
        steps=(
            "INCOMPLETE_KYC: complete the shop's documents in the marketplace's back office.",
            "AWAITING_INVOICE_CHECK: ask the operator when the invoice is checked.",
            "Otherwise look at the bank details of the shop, and ask the operator to pay again.",
        ),
        closes="Mirakl shows the payout as on its way, or paid.",
    ),
    Entry(
        code="ledger-type-unknown",
        title="A kind of transaction that the ledger does not know",
        meaning=(
            "The marketplace booked lines of a type that is in no published list. They stand in suspense and in the "
            "cycle's sum, so that the ledger balances; which account they belong to, a person has to say."
        ),
        owner_team="finance",
        severity="normal",
        steps=(
            "Find out what the type is: the line in the case, the operator's announcements.",
            "Map it in the control room: kind account, the type as it is written, the account's name.",
            "The lines in suspense are then taken back and booked there, and so are all that come.",
        ),
        closes="The mapping.",
    ),
    Entry(
        code="ledger-line-unreadable",
        title="A transaction line that no ledger can hold",
        meaning=(
            "The amount of a transaction has more than fifteen digits or six decimals, or its currency is no ISO 4217 "
            "code. It is not booked, and its payout will not agree."
        ),
        owner_team="finance",
        severity="high",
        by_hand=True,
        steps=(
            "Look the transaction up in the marketplace's back office.",
            "Ask the operator for a correction.",
        ),
        closes="An amount that can be held, once the marketplace shows it, or a person, once it is corrected.",
    ),
    Entry(
        code="offer-rejected",
        title="A marketplace refused an offer, its price or its attributes",
        meaning=(
            "Mirakl worked an import through and refused this line, with the reason in the case: OF24 was to create "
            "the offer, PRI01 to set its price, OF01 to change an attribute. The offer is as it was before."
        ),
        owner_team="catalogue",
        severity="normal",
        by_hand=True,
        steps=(
            "Read the reason. Mostly the product is not known there, or a price or value is not allowed.",
            "Put it right in SFCC, or in the marketplace's back office.",
            "What changed goes out by itself within minutes; the same as before is tried again after a day.",
        ),
        closes="An import that takes the offer in, the end of what was to be changed, or a person.",
    ),
    Entry(
        code="offer-import-refused",
        title="A marketplace refuses a shop's imports of offers",
        meaning=(
            "Mirakl did not take a whole import of offers, prices or products, for the reason in the case. Nothing of "
            "it was changed; stock goes its own way and is not held up."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Read the reason: a missing right of the key, or a file that the operator does not take.",
            "Put it right in the marketplace's back office, or ask the operator.",
            "The same is sent again after a day, anything new within minutes.",
        ),
        closes="The first import of the shop that the marketplace takes.",
    ),
    Entry(
        code="product-incomplete",
        title="New products wait for a category or a field that the marketplace needs",
        meaning=(
            "Products that the marketplace does not know cannot be sent: their SFCC category is mapped to none of the "
            "operator's, or a field that the operator requires is mapped to nothing, or is empty in SFCC. The case "
            "names what is missing and one of the products."
        ),
        owner_team="catalogue",
        severity="normal",
        steps=(
            "A category: map the SFCC category to one of the operator's (mapping kind `category`). Products without "
            "one get a primary category in SFCC.",
            "A field: map an SFCC attribute to it (mapping kind `attribute`), and fill that attribute in SFCC.",
            "The products go out by themselves within half an hour.",
        ),
        closes="The first look at the catalogue that finds no product which lacks it.",
    ),
    Entry(
        code="product-rejected",
        title="A marketplace did not take a new product",
        meaning=(
            "The product was sent (P41), the import has ended, and the marketplace does not know the product. Without "
            "it there can be no offer."
        ),
        owner_team="catalogue",
        severity="normal",
        by_hand=True,
        steps=(
            "Read the import's reports in the marketplace's back office.",
            "Put the product right in SFCC, or the mapping of its category and attributes.",
            "What changed in SFCC goes out by itself within half an hour; the same as before after a day.",
        ),
        closes="The marketplace, once it knows the product, the end of the product in SFCC, or a person.",
    ),
    Entry(
        code="prices-not-read",
        title="A site's price books cannot be read",
        meaning=(
            "SFCC was asked to export the site's price books by the job `ExportPriceBook` and the file could not be "
            "had, for the reason in the case. Marketplaces keep the prices that were read last."
        ),
        owner_team="integration",
        severity="high",
        steps=(
            "Look at the job and its log in Business Manager: one step ExportPriceBook, with the parameters "
            "PriceBookIDs and ExportFile.",
            "Check that the client may run jobs (sfcc.jobs.rw) and read the Impex folder by WebDAV.",
            "The price books are read again within the hour.",
        ),
        closes="The first complete reading of the price books.",
    ),
    Entry(
        code="offer-change-resets-stock",
        title="A marketplace seems to reset stock when an offer's attributes change",
        meaning=(
            "Before attributes of offers are sent to a marketplace (OF01), one offer with stock goes first, in a file "
            "without quantities. Afterwards this offer had none. No further attributes are sent to this marketplace; "
            "prices and stock go their own ways."
        ),
        owner_team="integration",
        severity="high",
        by_hand=True,
        steps=(
            "Look whether the offer was sold out at just that time: then its stock was not reset.",
            "Otherwise ask the operator what a column does that is not in an OF01 file in NORMAL mode.",
            "Another offer is tried after a day; take the mapping of offer columns away to prevent it.",
        ),
        closes="An offer that keeps its stock, or a person, where nothing is to be tried any more.",
    ),
)

HANDBOOK: Final = {entry.code: entry for entry in _ENTRIES}


def entry(code: str) -> Entry:
    """The entry of a case code.

    Raises:
        ValueError: the code has none.
    """
    found = HANDBOOK.get(code)
    if found is None:
        raise ValueError(
            f"case code {code!r} has no handbook entry: add it to shared/handbook.py with its meaning, owner, "
            "severity and steps"
        )
    return found


_BY_HAND: Final = (
    "It can be closed by hand in the control room, with an explanation, and opens again when it has something new "
    "to say."
)
_BY_CAUSE: Final = "It cannot be closed by hand."


def document(entries: Sequence[Entry] = _ENTRIES) -> str:
    """The handbook as Markdown, in the order of the codes."""
    lines = [
        "# Operator handbook",
        "",
        "One entry per case code: what it means, whose it is, what to do. Generated by `make schemas` from",
        "`shared/handbook.py`; edit the entries there, not this file.",
        "",
        "| Code | Owner | Severity | In short |",
        "|---|---|---|---|",
    ]
    ordered = sorted(entries, key=lambda e: e.code)
    lines += [f"| [{e.code}](#{e.code}) | {e.owner_team} | {e.severity} | {e.title} |" for e in ordered]
    for e in ordered:
        lines += ["", f"## {e.code}", "", f"**{e.title}.** {e.meaning}", ""]
        lines += [f"Owner: {e.owner_team}. Severity: {e.severity}.", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(e.steps, 1)]
        lines += ["", f"Closed by: {e.closes}", "", _BY_HAND if e.by_hand else _BY_CAUSE]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document, or with `--check` say what differs; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the file differs")
    wanted = document()
    if not parser.parse_args(arguments).check:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(wanted)
        return 0
    found = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    difference = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/handbook.md", "from the code", lineterm="", n=1
    )
    text = "\n".join(difference)
    if text:
        print(f"{text}\nrun `make schemas`", file=sys.stderr)
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main())
