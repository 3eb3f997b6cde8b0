"""Omnichannel Inventory: availability, deltas, full exports and reservations (OCI 1.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.common.clock import iso, parse_instant
from sandbox.common.server import Answer, to_json
from sandbox.sfcc.gateway import Call, Operation, organization_path
from sandbox.sfcc.refusals import Refusal
from sandbox.sfcc.reservations import Reservations
from sandbox.sfcc.shapes import Flag, Instant, ListOf, Number, Record, Shape, Text

if TYPE_CHECKING:
    from sandbox.sfcc.instance import Instance

__all__ = ["OPERATIONS", "Export", "ExportDesk"]

AVAILABILITY = "/inventory/availability/v1"
IMPEX = "/inventory/impex/v1"
RESERVATION = "/inventory/reservation/v1"
READ = ("sfcc.inventory.availability", "sfcc.inventory.availability.rw")
WRITE = ("sfcc.inventory.availability.rw",)
EXPORTS = ("sfcc.inventory.impex-inventory", "sfcc.inventory.impex-inventory.rw")
RESERVE = ("sfcc.inventory.reservations.rw",)
MOST_CELLS = 100

SKU = Text(shortest=2, longest=250, pattern=r"[^\\<>;%/\s]+")
PLACE = Text(shortest=2, longest=128)
QUANTITY = Number(smallest=0, largest=10**9, step="0.001")
REFERENCE = Text(longest=128, pattern="[A-Za-z0-9-]*")
PLACES = ListOf(PLACE, fewest=1)
FUTURES = ListOf(Record({"expectedDate": Instant(), "quantity": QUANTITY}, required=("expectedDate", "quantity")))
ATTRIBUTES = Record({"groupEligibilityExclusion": ListOf(PLACE)})
GET_AVAILABILITY = Record(
    {"skus": ListOf(SKU, fewest=1), "locations": ListOf(PLACE), "groups": ListOf(PLACE), "sku": SKU, "group": PLACE},
    one_of=("skus", "sku"),
)
BATCH_RECORD = Record(
    {
        "id": Text(shortest=1, longest=128),
        "location": PLACE,
        "sku": SKU,
        "onHand": QUANTITY,
        "safetyStockCount": QUANTITY,
        "effectiveDate": Instant(),
        "futureStock": FUTURES,
        "futures": FUTURES,
        "attributeSet": ATTRIBUTES,
        "externalRefId": REFERENCE,
    },
    required=("id", "location", "sku"),
)
ITEM = Record({"sku": SKU, "quantity": QUANTITY}, required=("sku", "quantity"))
BUNDLE = Record({"id": Text(shortest=1, longest=128), "reservations": ListOf(ITEM)}, required=("id", "reservations"))
RESERVED_PLACE = Record(
    {"id": PLACE, "reservations": ListOf(ITEM), "allOrNothingReservations": ListOf(BUNDLE)}, required=("id",)
)
RESERVATION_DOCUMENT: dict[str, Shape] = {
    "externalRefId": REFERENCE,
    "expirationSeconds": Number(smallest=0, largest=14_400, whole=True),
    "reservationTime": Instant(),
    "allowPartialReservations": Flag(),
    "fulfillOnly": Flag(),
    "locations": ListOf(RESERVED_PLACE),
    "groups": ListOf(RESERVED_PLACE),
}
MOVEMENT: dict[str, Shape] = {
    "id": Text(shortest=1, longest=128),
    "externalRefId": REFERENCE,
    "sku": SKU,
    "quantity": QUANTITY,
    "location": PLACE,
    "group": PLACE,
    "fulfillmentTime": Instant(),
}
WHERE = Record({"location": PLACE, "group": PLACE}, one_of=("location", "group"))


def _records(record: Record) -> Record:
    return Record({"records": ListOf(record, fewest=1, most=100)}, required=("records",))


@dataclass(slots=True)
class Export:
    """A full export; `content` is there once it is COMPLETED."""

    id: str
    place_type: str
    places: list[str]
    started: datetime
    ends: datetime | None = None
    expires: datetime | None = None
    status: str = "PENDING"
    records: int = 0
    content: bytes = b""


class ExportDesk:
    """Full exports. The token in the last line stands for the moment the content was taken, so no change is lost."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.exports: dict[str, Export] = {}

    def begin(self, place_type: str, places: list[str]) -> Export:
        """Starts an export; it completes after `export_seconds` of the sandbox's clock."""
        instance = self._instance
        digits = f"{instance.rng.getrandbits(128):032x}"
        letter = place_type[0].lower()
        export = Export(
            f"{letter}-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
            place_type,
            places,
            instance.clock.now(),
        )
        self.exports[export.id] = export
        seconds = instance.config.switches.export_seconds
        instance.clock.after(seconds / 2, lambda at: self._running(export))
        instance.clock.after(seconds, lambda at: self._complete(export, at))
        return export

    @staticmethod
    def _running(export: Export) -> None:
        export.status = "RUNNING"

    def _complete(self, export: Export, at: datetime) -> None:
        stock = self._instance.stock
        lines: list[bytes] = []
        for place in export.places:
            lines.append(to_json({"groupId" if export.place_type == "GROUP" else "locationId": place}))
            for sku in stock.skus(export.place_type, place):
                lines.append(to_json(stock.shown(export.place_type, place, sku)))
                export.records += 1
        # Recorded exports have an empty line among the others.
        lines.insert(len(lines) // 2, b"")
        lines.append(to_json({"deltaToken": stock.token(export.place_type, export.places)}))
        export.content = b"\n".join(lines) + b"\n"
        export.status = "COMPLETED"
        export.ends = at
        export.expires = at + timedelta(seconds=self._instance.config.switches.export_link_seconds)

    def find(self, export_id: str) -> Export:
        """An export; 404 EntityNotFound."""
        export = self.exports.get(export_id)
        if export is None:
            raise Refusal(404, "EntityNotFound", f"No export with ID {export_id}.")
        if export.expires is not None and self._instance.clock.now() >= export.expires:
            export.status, export.content = "EXPIRED", b""
        return export


def get_availability(call: Call) -> Answer:
    """Availability of up to 100 SKUs × places; unknown SKUs are zero with `exists` false."""
    stock, body = call.instance.stock, call.body
    if "sku" in body:
        group = body.get("group")
        if group is not None:
            stock.check_places("GROUP", [group])
        skus, groups = [body["sku"]], [group] if group is not None else list(stock.groups)
        locations = stock.groups[group] if group is not None else stock.locations
    else:
        skus, locations, groups = body["skus"], body.get("locations", []), body.get("groups", [])
    cells = len(skus) * (len(locations) + len(groups))
    if not cells:
        raise Refusal(400, "MissingParameter", "Name at least one location or group.")
    if cells > MOST_CELLS:
        raise Refusal(400, "InvalidRequest", f"{cells} SKU and place combinations; at most {MOST_CELLS} are allowed.")
    stock.check_places("LOCATION", locations)
    stock.check_places("GROUP", groups)
    answer: dict[str, Any] = {}
    if locations:
        answer["locations"] = [{"id": place, "records": stock.get("LOCATION", place, skus)} for place in locations]
    if groups:
        answer["groups"] = [{"id": place, "records": stock.get("GROUP", place, skus)} for place in groups]
    return Answer(payload=answer)


def create_delta_token(call: Call) -> Answer:
    """A token for the changes from now on."""
    return Answer(payload={"deltaToken": call.instance.stock.token(call.body["placeType"], call.body["places"])})


def update_delta_token(call: Call) -> Answer:
    """The same position for other places."""
    places = call.body["places"]
    return Answer(
        payload={"deltaToken": call.instance.stock.update_token(call.body["deltaToken"], places), "places": places}
    )


def get_deltas(call: Call) -> Answer:
    """A page of changes."""
    return Answer(payload=call.instance.stock.deltas(call.body["deltaToken"]))


def batch_update(call: Call) -> Answer:
    """Sets up to 100 records: 204, or 200 with errors. A record's known `id` makes it a repeat without effect."""
    stock, errors = call.instance.stock, []
    for record in call.body["records"]:
        try:
            stock.check_places("LOCATION", [record["location"]])
        except Refusal as refusal:
            details = {name: record[key] for name, key in _ERROR_DETAILS if key in record}
            errors.append({"details": details, "message": refusal.detail, "errorCode": refusal.slug})
            continue
        if stock.repeat(record["id"]):
            continue
        stock.put(
            record["location"],
            record["sku"],
            on_hand=_quantity(record, "onHand"),
            safety=_quantity(record, "safetyStockCount"),
            futures=record.get("futures", record.get("futureStock")),
            effective=parse_instant(record["effectiveDate"]) if "effectiveDate" in record else None,
            excluded_groups=record.get("attributeSet", {}).get("groupEligibilityExclusion"),
        )
    return Answer(payload={"errors": errors}) if errors else Answer(204)


_ERROR_DETAILS = (("id", "id"), ("externalRefId", "externalRefId"), ("locationId", "location"), ("sku", "sku"))


def _quantity(record: dict[str, Any], name: str) -> Decimal | None:
    return Decimal(record[name]) if name in record else None


def start_export(call: Call) -> Answer:
    """A full export of groups or of locations, never of both; `*` means all."""
    asked = call.body["objects"]
    if ("groups" in asked) == ("locations" in asked):
        raise Refusal(400, "InvalidRequest", "Name either groups or locations.")
    stock = call.instance.stock
    place_type, name = ("GROUP", "groups") if "groups" in asked else ("LOCATION", "locations")
    every = list(stock.groups) if place_type == "GROUP" else stock.locations
    places = every if "*" in asked[name] else asked[name]
    stock.check_places(place_type, places)
    export = call.instance.exports.begin(place_type, places)
    return Answer(payload={"exportId": export.id, "exportStatusLink": f"{_link(call, export)}/status"})


def _link(call: Call, export: Export) -> str:
    tail = organization_path(IMPEX, "").format(organizationId=call.path["organizationId"])
    return f"{call.request.scheme}://{call.request.host}{tail}/availability-records/exports/{export.id}"


def export_status(call: Call) -> Answer:
    """How far an export is, and where its file is."""
    export = call.instance.exports.find(call.path["exportId"])
    shown: dict[str, Any] = {
        "id": export.id,
        "status": export.status,
        "export": {
            "startTimeUTC": iso(export.started),
            "recordsProcessedCount": export.records,
            "recordsExportedCount": export.records,
        },
    }
    if export.place_type == "GROUP":
        shown["export"]["groups"] = export.places
    if export.ends is not None and export.expires is not None:
        shown["export"]["endTimeUTC"] = iso(export.ends)
        shown["download"] = {
            "downloadLink": f"{_link(call, export)}/file-content",
            "downloadLinkExpirationUTC": iso(export.expires),
        }
        shown["validation"] = {
            "fileHashType": "SHA-256",
            "fileHash": hashlib.sha256(export.content).hexdigest(),
            "fileSize": len(export.content),
        }
    return Answer(payload=shown)


def export_file(call: Call) -> Answer:
    """The file: a line per place, a line per record, a last line with the delta token."""
    export = call.instance.exports.find(call.path["exportId"])
    if export.status != "COMPLETED":
        raise Refusal(404, "EntityNotFound", f"The export {export.id} is {export.status.lower()}.")
    return Answer(raw=export.content, content_type="application/x-ndjson")


def put_reservation(call: Call) -> Answer:
    """Creates or restates a reservation document: 200 even where stock is short."""
    answer = call.instance.reservations.put(call.path["documentId"], call.body)
    return Answer(payload=answer, headers={"Location": call.request.path})


def patch_reservation(call: Call) -> Answer:
    """Adds to a reservation document, or cancels it."""
    return Answer(payload=call.instance.reservations.patch(call.path["documentId"], call.body))


def _moves(name: str) -> Any:
    def move(call: Call) -> Answer:
        action = getattr(Reservations, name)
        errors = []
        for record in call.body["records"]:
            if call.instance.stock.repeat(f"{name}:{record['id']}"):
                continue
            problem = action(call.instance.reservations, record)
            if problem is not None:
                call.instance.stock.forget(f"{name}:{record['id']}")
                details = {key: record[key] for key in ("id", "externalRefId", "sku") if key in record}
                errors.append({"details": details, "errorCode": problem[0], "message": problem[1]})
        return Answer(payload={"errors": errors}) if errors else Answer(204)

    move.__doc__ = getattr(Reservations, name).__doc__
    return move


_SOURCES = {
    AVAILABILITY: "OCI Availability 1.1",
    IMPEX: "OCI Impex 1.1",
    RESERVATION: "OCI Reservation 1.1",
}


def _oci(
    operation_id: str,
    method: str,
    base: str,
    tail: str,
    handler: Any,
    scopes: tuple[str, ...],
    body: Record | None = None,
) -> Operation:
    return Operation(
        id=operation_id,
        method=method,
        path=organization_path(base, tail),
        family="oci",
        handler=handler,
        admin_scopes=scopes,
        body=body,
        source=_SOURCES[base],
    )


_RECORDS = "/availability-records"
_TOKEN_TEXT = Text(shortest=1, longest=10_000)
_KINDS = Text(choices=("GROUP", "LOCATION"))
_BATCH = f"{_RECORDS}/actions/batch-update"
# "*" stands for all places.
_SOME = ListOf(Text(shortest=1, longest=128), fewest=1)
_EXPORT_BODY = Record({"objects": Record({"groups": _SOME, "locations": _SOME})}, required=("objects",))
_DOCUMENT = "/reservation-documents/{documentId}"
_MOVED = Record(MOVEMENT, required=("id", "sku", "quantity"), one_of=("location", "group"))
_TRANSFER = Record(
    {name: MOVEMENT[name] for name in ("id", "externalRefId", "sku", "quantity")} | {"from": WHERE, "to": WHERE},
    required=("id", "sku", "quantity", "from", "to"),
)
OPERATIONS = (
    _oci("getAvailability", "POST", AVAILABILITY, f"{_RECORDS}/actions/get-availability", get_availability, READ,
         GET_AVAILABILITY),
    _oci("createDeltaToken", "POST", AVAILABILITY, f"{_RECORDS}/delta-token", create_delta_token, WRITE,
         Record({"placeType": _KINDS, "places": PLACES}, required=("placeType", "places"))),
    _oci("updateDeltaToken", "POST", AVAILABILITY, f"{_RECORDS}/delta-token/actions/update", update_delta_token, WRITE,
         Record({"deltaToken": _TOKEN_TEXT, "places": PLACES}, required=("deltaToken", "places"))),
    _oci("getDeltas", "POST", AVAILABILITY, f"{_RECORDS}/actions/get-deltas", get_deltas, READ,
         Record({"deltaToken": _TOKEN_TEXT}, required=("deltaToken",))),
    _oci("batchUpdate", "POST", AVAILABILITY, _BATCH, batch_update, WRITE, _records(BATCH_RECORD)),
    _oci("batchPatch", "PATCH", AVAILABILITY, _BATCH, batch_update, WRITE, _records(BATCH_RECORD)),
    _oci("startExport", "POST", IMPEX, f"{_RECORDS}/exports", start_export, EXPORTS, _EXPORT_BODY),
    _oci("getExportStatus", "GET", IMPEX, f"{_RECORDS}/exports/{{exportId}}/status", export_status, EXPORTS),
    _oci("getExportFile", "GET", IMPEX, f"{_RECORDS}/exports/{{exportId}}/file-content", export_file, EXPORTS),
    _oci("putReservation", "PUT", RESERVATION, _DOCUMENT, put_reservation, RESERVE, Record(RESERVATION_DOCUMENT)),
    _oci("patchReservation", "PATCH", RESERVATION, _DOCUMENT, patch_reservation, RESERVE,
         Record(RESERVATION_DOCUMENT | {"status": Text(choices=("CANCELLED",))})),
    _oci("releaseReservations", "POST", RESERVATION, "/releases", _moves("release"), RESERVE, _records(_MOVED)),
    _oci("fulfilReservations", "POST", RESERVATION, "/fulfillments", _moves("fulfil"), RESERVE, _records(_MOVED)),
    _oci("transferReservations", "POST", RESERVATION, "/transfers", _moves("transfer"), RESERVE, _records(_TRANSFER)),
)  # fmt: skip
