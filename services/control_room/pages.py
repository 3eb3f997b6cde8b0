"""The pages: every list and every form, rendered on the server; a small script keeps them fresh.

A page reads projections and says what it knows; a form calls the desk and goes back to where it was. What
a role may not do is not shown, and refused all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp_jinja2
import jinja2
import msgspec
import structlog
from aiohttp import web
from itsdangerous import BadSignature, URLSafeSerializer
from markupsafe import Markup

from services.control_room import queries, views
from services.control_room.access import SESSION_SECONDS, Act, People, Person, Session, Sessions
from services.control_room.actions import ChangedMeanwhile, Desk, Settled, line_of
from services.control_room.folds import Case, Order, fold_case, fold_order
from services.control_room.links import about_url, case_url, offer_url, order_url, path_of_ours
from services.control_room.tables import TABLES, Table
from shared.clock import monotonic
from shared.database import Database
from shared.errors import Fatal, Permanent, Transient
from shared.events.decisions import LineAnswer
from shared.handbook import HANDBOOK
from shared.mappings import CARRIERS, SKUS, Carrier, InvalidMapping, Mapped, MappingTable, Product
from shared.outbox import Now
from shared.rules import InvalidRule, Rule

log = structlog.get_logger(__name__)

HERE: Final = Path(__file__).parent
COOKIE: Final = "control-room"
FLASH: Final = "control-room-said"
SESSION: Final = web.RequestKey("session", Session)
PERSON: Final = web.RequestKey("person", Person)
TEAMS: Final = tuple(sorted({entry.owner_team for entry in HANDBOOK.values()}))

_LONGEST_EXPLANATION: Final = 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Told(web.HTTPSeeOther):
    """Back to a page, with a word of what happened."""

    def __init__(self, to: str, text: str, tone: views.Tone = "good") -> None:
        super().__init__(to)
        self.text_said = text
        self.tone = tone


@dataclass(slots=True)
class Room:
    """What pages need."""

    database: Database
    clock: Now
    desk: Desk
    people: People
    sessions: Sessions
    trace_url: str | None = None
    secure: bool = False
    """Cookies over HTTPS only."""
    _glanced: Mapping[str, Any] | None = None
    _glance_until: float = 0.0
    _glancing: asyncio.Lock = field(default_factory=asyncio.Lock)

    # Application --------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """All routes, with everything between them and the browser."""
        app = web.Application(
            middlewares=[self._tell, self._meet, self._check_forms],
            client_max_size=256 * 1024,
        )
        environment = aiohttp_jinja2.setup(
            app,
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=jinja2.select_autoescape(),
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.filters |= {
            "money": views.amount,
            "words": views.words,
            "who": self.people.name_of,
            "case_url": case_url,
            "about_url": about_url,
        }
        environment.globals |= {
            "handbook": HANDBOOK,
            "stage_words": views.STAGE_WORDS,
            "severity_tones": views.SEVERITY_TONES,
            "order_url": order_url,
            "offer_url": offer_url,
            "line_of": line_of,
            "static": static_url,
            "trace_url": self.trace_link,
            "teams": TEAMS,
            "tables": TABLES,
        }
        app.on_response_prepare.append(self._harden)
        app.add_routes(
            [
                web.get("/", self.flow),
                web.get("/sign-in", self.show_sign_in),
                web.post("/sign-in", self.sign_in),
                web.post("/sign-out", self.sign_out),
                web.get("/cases", self.list_cases),
                web.get("/cases/{case_id:.+}", self.show_case),
                web.post("/note", self.note_case),
                web.post("/close", self.close_case),
                web.get("/orders", self.list_orders),
                web.get("/orders/{marketplace}/{order_id:.+}", self.show_order),
                web.post("/answer", self.answer_order),
                web.post("/hold", self.decide_hold),
                web.post("/settle", self.settle_obligation),
                web.get("/offers", self.list_offers),
                web.get("/offer", self.show_offer),
                web.get("/mappings/{kind}", self.list_mappings),
                web.post("/mappings/{kind}", self.set_mapping),
                web.post("/mappings/{kind}/remove", self.remove_mapping),
                web.get("/mapping/{kind}", self.show_mapping),
                web.get("/rules", self.list_rules),
                web.get("/rule", self.show_rule),
                web.post("/rules", self.set_rule),
                web.post("/rules/remove", self.remove_rule),
                web.get("/payouts", self.list_payouts),
                web.get("/payouts/{marketplace}/{cycle:.+}", self.show_payout),
                web.get("/dead-letters", self.list_letters),
                web.get("/audit", self.list_audit),
                web.static("/static", HERE / "static"),
            ]
        )
        return app

    def trace_link(self, traceparent: str | None) -> str | None:
        """Where a trace can be looked at, if it was recorded and somebody said where."""
        trace = views.trace_id(traceparent)
        return self.trace_url.replace("{trace_id}", trace) if trace and self.trace_url else None

    # Between browser and pages ------------------------------------------------------------------

    async def _harden(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Frame-Options"] = "DENY"
        headers["Referrer-Policy"] = "same-origin"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
        if self.secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        if request.path.startswith("/static/"):
            headers["Cache-Control"] = "public, max-age=31536000, immutable"
        else:
            headers["Cache-Control"] = "no-store"

    @web.middleware
    async def _tell(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors as pages, and what a form did as a word on the next page."""
        try:
            return await handler(request)
        except Told as told:
            response = web.Response(status=303, headers={"Location": str(told.location)})
            said = URLSafeSerializer(self.sessions.secret, salt="said").dumps([told.tone, told.text_said])
            self._set_cookie(response, FLASH, str(said), 60)
            return response
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return self._error_page(request, error.status, error.text or error.reason)
        except Permanent as error:
            return self._error_page(request, 400, f"This cannot be written down: {error}")
        except Transient as error:
            log.warning("page_waits", path=request.path, reason=str(error))
            return self._error_page(request, 503, "The database does not answer just now. Nothing is lost; try again.")

    @web.middleware
    async def _meet(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who is it? Strangers may sign in, and nothing else."""
        if request.path.startswith("/static/"):
            return await handler(request)
        if any("\0" in text for text in (request.path, *request.query.values())):
            raise web.HTTPBadRequest(text="An address holds no NUL character.")
        try:
            self.people.refresh()
        except Fatal as error:
            log.error("people_not_read", reason=str(error))  # Those who were known before may go on.
        session = self.sessions.read(request.cookies.get(COOKIE))
        person = self.people.by_id(session.person_id) if session and session.person_id else None
        if session is not None:
            request[SESSION] = session
        if session is not None and person is not None and session.mark == person.mark:
            request[PERSON] = person
        elif request.path != "/sign-in":
            if request.method != "GET":
                raise web.HTTPUnauthorized(text="Your session has ended. Sign in again, then repeat what you did.")
            raise web.HTTPSeeOther("/sign-in?" + urlencode({"next": request.path_qs}))
        return await handler(request)

    @web.middleware
    async def _check_forms(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A form counts only when this site made it for this session."""
        if request.method == "POST":
            session = request.get(SESSION)
            form = await request.post()
            if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
                raise web.HTTPForbidden(text="The form came from another site.")
            if session is None or not session.is_form_token(str(form.get("token", ""))):
                raise web.HTTPForbidden(text="The form has grown old. Go back, load the page again and repeat it.")
        return await handler(request)

    def _set_cookie(self, response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
        response.set_cookie(name, value, max_age=seconds, httponly=True, secure=self.secure, samesite="Lax", path="/")

    def _error_page(self, request: web.Request, status: int, text: str) -> web.Response:
        context = self._context(request) | {"status": status, "text": text}
        return aiohttp_jinja2.render_template("error.html", request, context, status=status)

    def _context(self, request: web.Request) -> dict[str, Any]:
        person, session = request.get(PERSON), request.get(SESSION)
        now = self.clock.now()
        return {
            "person": person,
            "token": session.token if session else "",
            "now": now,
            "here": request.path_qs,
            "at": request.path,
            "query": request.query,
            "said": self._said(request),
            "open_cases": None,
            "stale_sources": (),
            "stamp": lambda at: _stamp(at, person, now),
            "ago": lambda at: views.ago(at, now),
            "until": lambda at: views.until(at, now),
            "urgency": lambda at: views.urgency(at, now),
            "page_url": lambda number: _page_url(request, number),
        }

    def _said(self, request: web.Request) -> tuple[str, str] | None:
        try:
            tone, text = URLSafeSerializer(self.sessions.secret, salt="said").loads(request.cookies.get(FLASH, ""))
        except (BadSignature, ValueError):
            return None
        return tone, text

    async def _render(self, request: web.Request, template: str, **context: Any) -> web.StreamResponse:
        """A page, or the word that it has not changed since the browser read it."""
        open_cases, stale = await asyncio.gather(
            queries.open_cases(self.database), queries.stale_sources(self.database)
        )
        everything = self._context(request) | {"open_cases": open_cases, "stale_sources": stale} | context
        response = aiohttp_jinja2.render_template(template, request, everything)
        if everything["said"]:
            response.del_cookie(FLASH, path="/")
            return response
        assert isinstance(response.body, bytes)  # rendered text is
        tag = hashlib.sha256(response.body).hexdigest()[:24]
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{tag}"'})
        response.headers["ETag"] = f'"{tag}"'
        return response

    # Coming and going ---------------------------------------------------------------------------

    async def show_sign_in(self, request: web.Request) -> web.StreamResponse:
        """The door."""
        if PERSON in request:
            raise web.HTTPSeeOther("/")
        session = request.get(SESSION) or self.sessions.new()
        request[SESSION] = session
        context = self._context(request) | {"next": request.query.get("next", "/")}
        response = aiohttp_jinja2.render_template("sign_in.html", request, context)
        self._set_cookie(response, COOKIE, self.sessions.write(session), 3_600)
        return response

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """In, with a new session; what was wrong is not told apart."""
        form = await request.post()
        login, to = _text(form, "login"), path_of_ours(_text(form, "next"))
        door = "/sign-in?" + urlencode({"next": to})
        if self.people.is_barred(login):
            raise Told(door, "Too many attempts. Wait five minutes, then try again.", "bad")
        person = await asyncio.to_thread(self.people.sign_in, login, str(form.get("password", "")))
        if person is None:
            self.people.note_failure(login)
            raise Told(door, "Login or password is wrong.", "bad")
        response = web.Response(status=303, headers={"Location": to})
        self._set_cookie(response, COOKIE, self.sessions.write(self.sessions.new(person)), SESSION_SECONDS)
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """Out."""
        response = web.Response(status=303, headers={"Location": "/sign-in"})
        response.del_cookie(COOKIE, path="/")
        return response

    # The flow -----------------------------------------------------------------------------------

    async def flow(self, request: web.Request) -> web.StreamResponse:
        """Everything at a glance."""
        now = self.clock.now()
        figures, due, teams = await asyncio.gather(
            self._glance(now), queries.deadlines(self.database), queries.case_counts(self.database)
        )
        return await self._render(
            request,
            "flow.html",
            headline=views.headline(teams, now),
            lanes=views.lanes(figures, now),
            due=due,
            teams_open=teams,
            hours=figures["hours"],
            bars=views.bars(figures["hours"]),
            letters=figures["letters"],
        )

    async def _glance(self, now: datetime) -> Mapping[str, Any]:
        """The figures, read once for all who look, and never for more than a tenth of the time."""
        async with self._glancing:
            if self._glanced is None or monotonic() >= self._glance_until:
                started = monotonic()
                self._glanced = await queries.glance(self.database, now)
                self._glance_until = monotonic() + max(1.0, 10 * (monotonic() - started))
            return self._glanced

    # Cases --------------------------------------------------------------------------------------

    async def list_cases(self, request: web.Request) -> web.StreamResponse:
        """Whose turn it is, until when, what is at stake."""
        wanted = queries.CaseFilter(
            team=request.query.get("team", ""),
            severity=request.query.get("severity", ""),
            marketplace=request.query.get("marketplace", ""),
            code=request.query.get("code", ""),
            text=request.query.get("q", ""),
            closed="closed" in request.query,
            taken_by=_person(request).id if "mine" in request.query else "",
        )
        page, choices = await asyncio.gather(
            queries.cases(self.database, wanted, _number(request)), queries.case_choices(self.database)
        )
        return await self._render(request, "cases.html", page=page, choices=choices, wanted=wanted)

    async def show_case(self, request: web.Request) -> web.StreamResponse:
        """One case: its facts, and the form that puts it right."""
        case_id = request.match_info["case_id"]
        history = await queries.case_history(self.database, case_id)
        if not history:
            raise web.HTTPNotFound(text="No such case. It may not have been read yet; try again in a moment.")
        case = fold_case(queries.told(history))
        order, line = await self._order_of(case), None
        held = await queries.held_offers(self.database, case_id)
        alike = await queries.cases_with_cause(self.database, case.cause) if case.cause and case.is_open else []
        alike = [other for other in alike if other["case_id"] != case_id]
        told = [msgspec.json.decode(other["facts"], type=dict[str, str]) for other in alike]
        found = views.remedies(case, order, holds=bool(held), alike=told)
        mapped = next((remedy for remedy in found if remedy.kind == "map"), None)
        if mapped is not None and "left" in mapped.fields:
            line = await queries.mapping(
                self.database, mapped.fields["marketplace"], mapped.fields["kind"], mapped.fields["left"]
            )
        return await self._render(
            request,
            "case.html",
            case_id=case_id,
            case=case,
            risk=views.money(case.money_at_risk),
            entry=HANDBOOK.get(case.code or ""),
            history=[(row, views.sentence(event), getattr(event, "by", None)) for row, event in history],
            remedies=found,
            closable=views.may_be_closed(case, found),
            order=order,
            line=_mapping_line(line),
            held=held,
            alike=alike,
        )

    async def _order_of(self, case: Case) -> Order | None:
        """The order a case is about, as it stands."""
        kind, _, key = (case.about or "").partition("/")
        marketplace, _, order_id = key.partition("/")
        if kind != "order" or not order_id:
            return None
        events = await queries.order_events(self.database, marketplace, order_id)
        return fold_order(queries.told(events)) if events else None

    async def note_case(self, request: web.Request) -> web.StreamResponse:
        """Take it, give it to another team, or write down what was found."""
        form, person = await self._form(request, "note")
        case_id, note, team = _text(form, "case_id"), _text(form, "note"), _text(form, "team")
        taken = "take" in form
        if not (note or team or taken):
            raise Told(case_url(case_id), "Nothing to write down.", "warn")
        await self.desk.note_case(person, case_id, taken=taken, owner_team=team or None, note=note or None)
        raise Told(case_url(case_id), "Taken: it is yours now." if taken else "Written down.")

    async def close_case(self, request: web.Request) -> web.StreamResponse:
        """Close a case that nothing else closes, with a word of what became of it."""
        form, person = await self._form(request, "close")
        case_id, explanation = _text(form, "case_id"), " ".join(_text(form, "explanation").split())
        back, case = case_url(case_id), await self._standing(case_id)
        held = await queries.held_offers(self.database, case_id)
        if not views.may_be_closed(case, views.remedies(case, holds=bool(held))):
            raise Told(back, f"This case is not closed by hand. Closed by: {_closes(case)}", "bad")
        if not 0 < len(explanation) <= _LONGEST_EXPLANATION:
            raise Told(
                back,
                f"Say what became of it, in 1 to {_LONGEST_EXPLANATION} characters; {len(explanation)} came.",
                "bad",
            )
        if case.opened_at is None or case.opened_at.isoformat() != _text(form, "opened_at"):
            raise Told(back, "The case was opened again meanwhile: look at it again, then decide.", "bad")
        await self.desk.close_case(person, case_id, case.service or "", case.opened_at, explanation=explanation)
        raise Told(back, f"Written down. {case.service} closes the case now.")

    # Orders -------------------------------------------------------------------------------------

    async def list_orders(self, request: web.Request) -> web.StreamResponse:
        """Orders by stage, or found by any of their numbers."""
        wanted = queries.OrderFilter(
            stage=request.query.get("stage", ""),
            marketplace=request.query.get("marketplace", ""),
            text=request.query.get("q", ""),
            problem=request.query.get("problem", ""),
            late="late" in request.query,
        )
        page = await queries.orders(self.database, wanted, self.clock.now(), _number(request))
        places = await queries.order_marketplaces(self.database)
        return await self._render(request, "orders.html", page=page, wanted=wanted, marketplaces=places)

    async def show_order(self, request: web.Request) -> web.StreamResponse:
        """One order across all stages."""
        marketplace, order_id = request.match_info["marketplace"], request.match_info["order_id"]
        events = await queries.order_events(self.database, marketplace, order_id)
        if not events:
            raise web.HTTPNotFound(text="No such order. It may not have been captured yet; try again in a moment.")
        order = fold_order(queries.told(events))
        return await self._render(
            request,
            "order.html",
            marketplace=marketplace,
            order_id=order_id,
            order=order,
            total=views.money(order.total),
            net=views.money(order.net),
            steps=views.steps(order),
            timeline=[(row, views.sentence(event), getattr(event, "by", None)) for row, event in events],
            remedies=[views.Remedy("answer", {"marketplace": marketplace, "order_id": order_id})]
            if order.stage == "answer" and order.lines
            else [],
            cases=await queries.cases_about(self.database, f"order/{marketplace}/{order_id}"),
        )

    async def answer_order(self, request: web.Request) -> web.StreamResponse:
        """A person's answer for every line of an order."""
        form, person = await self._form(request, "answer")
        marketplace, order_id, case_id = (_text(form, name) for name in ("marketplace", "order_id", "case_id"))
        back = case_url(case_id) if case_id else order_url(marketplace, order_id)
        order = fold_order(queries.told(await queries.order_events(self.database, marketplace, order_id)))
        if order.stage != "answer":
            raise Told(back, "The order waits for no answer any more.", "warn")
        answers = []
        for number, line in enumerate(order.lines, 1):
            said = _text(form, f"line-{number}")
            if not said:
                raise Told(back, "Every line needs an answer: accept or refuse.", "bad")
            answers.append(
                LineAnswer(
                    line_id=line.line_id,
                    accepted=said == "accept",
                    reason="operator-accepted" if said == "accept" else said,
                    product_id=line.product_id,
                    quantity=line.quantity,
                )
            )
        await self.desk.answer_order(
            person, marketplace, order_id, answers, case_id=case_id or None, reason=_text(form, "reason") or None
        )
        raise Told(back, "Answered. The acceptor sends it now and shows when the marketplace has it.")

    async def decide_hold(self, request: web.Request) -> web.StreamResponse:
        """Approve or discard what a guard held back."""
        form, person = await self._form(request, "hold")
        case_id, approved = _text(form, "case_id"), _text(form, "decision") == "approve"
        case = await self._standing(case_id)
        found = views.remedies(case, holds=bool(await queries.held_offers(self.database, case_id)))
        remedy = next((r for r in found if r.kind == "hold"), None)
        if remedy is None:
            raise Told(case_url(case_id), "Nothing is held in this case any more.", "warn")
        await self.desk.decide_hold(
            person,
            remedy.fields["about"],
            remedy.fields["service"],
            case_id,
            approved=approved,
            reason=_text(form, "reason") or None,
        )
        raise Told(case_url(case_id), "Approved: it goes on now." if approved else "Discarded: it stays held back.")

    async def settle_obligation(self, request: web.Request) -> web.StreamResponse:
        """Say what became of a call whose answer was lost."""
        form, person = await self._form(request, "settle")
        case_id, outcome = _text(form, "case_id"), _text(form, "outcome")
        if outcome not in ("happened", "did-not-happen", "give-up"):
            raise Told(case_url(case_id), "Say what became of it.", "bad")
        case = await self._standing(case_id)
        remedy = next((r for r in views.remedies(case) if r.kind == "settle"), None)
        if remedy is None:
            raise Told(case_url(case_id), "There is no obligation to settle in this case.", "bad")
        await self.desk.settle_obligation(
            person,
            remedy.fields["about"],
            remedy.fields["service"],
            remedy.fields["obligation_id"],
            cast(Settled, outcome),
            reason=_text(form, "reason") or None,
        )
        raise Told(case_url(case_id), "Settled. The service acts on it now.")

    async def _standing(self, case_id: str) -> Case:
        """An open case that somebody acts on."""
        case = fold_case(queries.told(await queries.case_history(self.database, case_id)))
        if not case.is_open:
            raise Told(case_url(case_id), "The case is closed already.", "warn")
        return case

    # Offers -------------------------------------------------------------------------------------

    async def list_offers(self, request: web.Request) -> web.StreamResponse:
        """What each offer shows and how far its number has come; products that were refused."""
        show, text = request.query.get("show", ""), request.query.get("q", "")
        if show == "products":
            page = await queries.rejected_products(self.database, text, _number(request))
            return await self._render(request, "products.html", page=page, show=show, text=text)
        page = await queries.offers(self.database, show, text, _number(request))
        return await self._render(request, "offers.html", page=page, show=show, text=text)

    async def show_offer(self, request: web.Request) -> web.StreamResponse:
        """Why an offer shows what it shows: inputs, rule, number, with times."""
        key = [request.query.get(name, "") for name in ("marketplace", "shop", "sku")]
        offer = await queries.offer(self.database, *key)
        if offer is None:
            raise web.HTTPNotFound(text="No such offer.")
        mapping = await queries.mapping(self.database, key[0], "sku", key[2])
        return await self._render(
            request, "offer.html", offer=offer, computed=queries.read_json(offer["computed"]), mapping=mapping
        )

    # Mappings and rules -------------------------------------------------------------------------

    async def list_mappings(self, request: web.Request) -> web.StreamResponse:
        """One mapping table."""
        table = _table(request).mapping
        marketplace, text = request.query.get("marketplace", ""), request.query.get("q", "")
        page = await queries.mappings(self.database, table.kind, marketplace, text, _number(request))
        return await self._render(
            request,
            "mappings.html",
            kind=table.kind,
            tabs=[(f"/mappings/{kind}", other.name, kind == table.kind) for kind, other in TABLES.items()],
            page=page,
            lines=[_mapping_line(row) for row in page.rows],
            marketplaces=await queries.marketplaces(self.database),
            marketplace=marketplace,
            text=text,
        )

    async def show_mapping(self, request: web.Request) -> web.StreamResponse:
        """One line with its history."""
        table = _table(request).mapping
        marketplace, left = request.query.get("marketplace", ""), table.normalise(request.query.get("left", ""))
        row = await queries.mapping(self.database, marketplace, table.kind, left)
        if row is None:
            raise web.HTTPNotFound(text="This was never mapped.")
        page, events = await queries.audit(self.database, "mappings", f"{marketplace}/{table.kind}/{left}", "", 1)
        return await self._render(
            request,
            "mapping.html",
            kind=table.kind,
            line=_mapping_line(row),
            history=list(zip(page.rows, map(views.sentence, events), strict=True)),
        )

    async def set_mapping(self, request: web.Request) -> web.StreamResponse:
        """Map a value; everything that waited for it goes on."""
        table = _table(request)
        form, person = await self._form(request, table.act)
        back = path_of_ours(_text(form, "back"))
        marketplace, left, right = (_text(form, name) for name in ("marketplace", "left", "right"))
        if not (marketplace and left and right):
            raise Told(back, "A mapping needs a marketplace, a value and what it is mapped to.", "bad")
        try:
            table.check(left, right)
            changed = await self.desk.set_mapping(
                person,
                table.mapping,
                marketplace,
                left,
                _mapped(table.mapping, right, form),
                reason=_text(form, "reason") or None,
                seen=_seen(form),
            )
        except (InvalidMapping, Permanent, ValueError) as error:
            raise Told(back, f"Not mapped: {error}", "bad") from error
        except ChangedMeanwhile as error:
            raise Told(back, str(error), "bad") from error
        if not changed:
            raise Told(back, f"{left} was mapped to {right} already.", "warn")
        raise Told(back, f"{left} is mapped to {right}. What waited for it goes on by itself.")

    async def remove_mapping(self, request: web.Request) -> web.StreamResponse:
        """Map a value to nothing any more."""
        table = _table(request)
        form, person = await self._form(request, table.act)
        back, left = path_of_ours(_text(form, "back")), _text(form, "left")
        try:
            changed = await self.desk.remove_mapping(
                person,
                table.mapping,
                _text(form, "marketplace"),
                left,
                reason=_text(form, "reason") or None,
                seen=_seen(form),
            )
        except ChangedMeanwhile as error:
            raise Told(back, str(error), "bad") from error
        raise Told(back, f"{left} is mapped to nothing now." if changed else f"{left} was mapped to nothing.")

    async def list_rules(self, request: web.Request) -> web.StreamResponse:
        """The rules that hold."""
        rows = await queries.rules(self.database)
        shown = [(row, views.settings_text(queries.read_json(row["settings"]))) for row in rows]
        places = await queries.marketplaces(self.database)
        return await self._render(request, "rules.html", rules=shown, marketplaces=places)

    async def show_rule(self, request: web.Request) -> web.StreamResponse:
        """One rule with its history."""
        marketplace, shop, rule = (request.query.get(name, "") for name in ("marketplace", "shop", "rule"))
        row = await queries.rule(self.database, marketplace, shop, rule)
        if row is None:
            raise web.HTTPNotFound(text="There was never such a rule.")
        page, events = await queries.audit(self.database, "rules", f"{marketplace}/{shop}/{rule}", "", 1)
        settings = queries.read_json(row["settings"])
        return await self._render(
            request,
            "rule.html",
            rule=row,
            settings=settings,
            as_text=_as_toml(settings or {}),
            seen=line_of(settings, {}),
            history=list(zip(page.rows, map(views.sentence, events), strict=True)),
        )

    async def set_rule(self, request: web.Request) -> web.StreamResponse:
        """Let a rule hold from now on."""
        form, person = await self._form(request, "rule")
        marketplace, shop, name = (_text(form, part) for part in ("marketplace", "shop", "rule"))
        back = path_of_ours(_text(form, "back"))
        try:
            settings = read_settings(_text(form, "settings"))
            changed = await self.desk.set_rule(
                person,
                _rule(name),
                marketplace,
                shop or "*",
                settings,
                reason=_text(form, "reason") or None,
                seen=_seen(form),
            )
        except (InvalidRule, Permanent, ValueError) as error:
            raise Told(back, f"Not set: {error}", "bad") from error
        except ChangedMeanwhile as error:
            raise Told(back, str(error), "bad") from error
        raise Told(back, f"{name} holds from now on." if changed else f"{name} held just so already.")

    async def remove_rule(self, request: web.Request) -> web.StreamResponse:
        """Let a rule hold no longer."""
        form, person = await self._form(request, "rule")
        marketplace, shop, name = (_text(form, part) for part in ("marketplace", "shop", "rule"))
        back = path_of_ours(_text(form, "back"))
        try:
            changed = await self.desk.set_rule(
                person,
                _rule(name),
                marketplace,
                shop,
                None,
                reason=_text(form, "reason") or None,
                seen=_seen(form),
            )
        except ChangedMeanwhile as error:
            raise Told(back, str(error), "bad") from error
        raise Told(back, f"{name} holds no longer." if changed else f"{name} did not hold.")

    # Money, dead letters, audit -----------------------------------------------------------------

    async def list_payouts(self, request: web.Request) -> web.StreamResponse:
        """Each billing cycle: what was paid, what was expected, what is left to explain."""
        show = request.query.get("show", "")
        if show == "suspense":
            page = await queries.suspense(self.database, _number(request))
            return await self._render(request, "suspense.html", page=page, show=show)
        page = await queries.payouts(self.database, show, _number(request))
        return await self._render(
            request, "payouts.html", page=page, payouts=[views.payout(row) for row in page.rows], show=show
        )

    async def show_payout(self, request: web.Request) -> web.StreamResponse:
        """One billing cycle, to the cent."""
        row = await queries.payout(self.database, request.match_info["marketplace"], request.match_info["cycle"])
        if row is None:
            raise web.HTTPNotFound(text="No such billing cycle.")
        return await self._render(request, "payout.html", payout=views.payout(row))

    async def list_letters(self, request: web.Request) -> web.StreamResponse:
        """Records that no retry could save."""
        settled = "settled" in request.query
        page = await queries.letters(self.database, settled, _number(request))
        return await self._render(request, "letters.html", page=page, settled=settled)

    async def list_audit(self, request: web.Request) -> web.StreamResponse:
        """Who changed what, old and new."""
        topic, text = request.query.get("topic", ""), request.query.get("q", "")
        page, events = await queries.audit(self.database, topic, "", text, _number(request))
        lines = list(zip(page.rows, map(views.sentence, events), strict=True))
        return await self._render(request, "audit.html", page=page, lines=lines, topic=topic, text=text)

    # Parts --------------------------------------------------------------------------------------

    async def _form(self, request: web.Request, act: Act) -> tuple[Mapping[str, Any], Person]:
        """A form, from a person who may."""
        person = _person(request)
        if not person.may(act):
            raise web.HTTPForbidden(text=f"The role {person.role} may look at this and not do it.")
        return await request.post(), person


def _closes(case: Case) -> str:
    known = HANDBOOK.get(case.code or "")
    return known.closes if known else "the service that opened it."


def _person(request: web.Request) -> Person:
    return request[PERSON]  # `_meet` lets nobody else through


def _table(request: web.Request) -> Table:
    try:
        return TABLES[request.match_info["kind"]]
    except KeyError:
        raise web.HTTPNotFound(text=f"There is no such table; there are {', '.join(TABLES)}.") from None


def _rule(name: str) -> Rule[Any]:
    """A rule of any settings: the services that read it know its type."""
    held: Any = dict
    return Rule(name, held)


def _mapped(table: MappingTable[Any], right: str, form: Mapping[str, Any]) -> Mapped:
    """What a form maps to, as its table holds it."""
    if table is CARRIERS:
        return Carrier(
            right=right, registered=_text(form, "registered") != "no", tracking_url=_text(form, "tracking_url") or None
        )
    if table is not SKUS:
        return Mapped(right=right)
    pack = _text(form, "pack_quantity") or "1"
    if not pack.isdigit() or not 1 <= int(pack) <= 100_000:
        raise ValueError(f"pack quantity {pack!r}: how many SFCC units one unit of the offer holds, e.g. 6")
    return Product(right=right, pack_quantity=int(pack))


def _mapping_line(row: queries.Row | None) -> dict[str, Any] | None:
    """A line with its extras read, and what a form must have seen of it."""
    if row is None:
        return None
    extras = queries.read_json(row["extras"])
    return dict(row) | {"extras": extras, "seen": line_of(row["right"], extras)}


def read_settings(text: str) -> dict[str, Any]:
    """A rule's settings, one `name = value` a line as TOML has it.

    Raises:
        ValueError: no TOML, or a value that a rule cannot hold.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f'{error}; write one a line, e.g. hours = 24 or units = "2.000"') from error
    if not found:
        raise ValueError("a rule needs a setting, e.g. hours = 24")
    for name, value in found.items():
        plain = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int) for one in plain):
            raise ValueError(f"{name}: use text, whole numbers, true, false or a list of them; decimals as text")
    return found


def _as_toml(settings: Mapping[str, Any]) -> str:
    """The other way round; JSON's values of these kinds are TOML's."""
    return "\n".join(f"{name} = {msgspec.json.encode(value).decode()}" for name, value in settings.items())


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name, "")
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def _seen(form: Mapping[str, Any]) -> str | None:
    return _text(form, "seen") or None


def _number(request: web.Request) -> int:
    text = request.query.get("page", "1")
    return int(text) if text.isdigit() and len(text) < 5 else 1


def _page_url(request: web.Request, number: int) -> str:
    query = {name: value for name, value in request.query.items() if name != "page"}
    return f"{request.path}?{urlencode(query | {'page': str(number)})}"


def _stamp(at: datetime | None, person: Person | None, now: datetime) -> Markup:
    """A time in the person's zone; today's without its date."""
    if at is None:
        return Markup("–")
    local = at.astimezone(person.zone) if person else at
    here_now = now.astimezone(person.zone) if person else now
    today, this_year = local.date() == here_now.date(), local.year == here_now.year
    text = f"{local:%H:%M:%S}" if today else f"{local:%d %b %H:%M}" if this_year else f"{local:%d %b %Y}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), f"{local:%Y-%m-%d %H:%M:%S %Z}", text
    )


_DIGESTS: dict[str, str] = {}


def static_url(name: str) -> str:
    """A file under `static/`, named by its content too, so that browsers may keep it for ever."""
    if name not in _DIGESTS:
        _DIGESTS[name] = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{_DIGESTS[name]}"


def fresh_secret() -> str:
    """A key for sessions that end with the process."""
    return secrets.token_urlsafe(32)
