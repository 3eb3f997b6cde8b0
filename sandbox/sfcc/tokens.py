"""Tokens: the two issuers. Account Manager grants system tokens, SLAS grants trusted-system (TSOB) tokens.

Account Manager (`/dwsso/oauth2/access_token`) checks the client, its allowed scopes and its tenant filter. SLAS
checks the request's members, the private client and refuses the same login twice within a second (SLAS OpenAPI,
trusted-system token, 409). A token is a signed-looking JWT whose third part is a sequence number of this sandbox; it
is looked up, never parsed.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from sandbox.sfcc.config import ApiClient, Config
from sandbox.sfcc.refusals import Refusal

__all__ = ["Token", "TokenDesk", "tenant_of"]

IDENTITY_PROVIDERS = (
    "apple", "auth0", "azure", "azure_adb2c", "cognito", "default", "ecom", "facebook", "forgerock", "gigya",
    "gigya_socialize", "google", "okta", "ping", "salesforce",
)  # fmt: skip


SWEPT = 1_000
"""From how many tokens on the expired ones are looked for."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a bearer token stands for; `kind` is `am` or `tsob`."""

    kind: str
    client_id: str
    scopes: frozenset[str]
    tenant: str
    expires: datetime
    login_id: str = ""
    email: str = ""
    channel: str = ""

    def allows(self, scopes: tuple[str, ...]) -> bool:
        """True where one of the asked scopes is granted; a write scope implies its read scope (scope naming rule)."""
        return any(scope in self.scopes or f"{scope}.rw" in self.scopes for scope in scopes)


def tenant_of(organization: str) -> str:
    """`f_ecom_zzsb_001` belongs to the tenant `zzsb_001`."""
    return organization.removeprefix("f_ecom_")


class TokenDesk:
    """Issues, revokes and looks up tokens. Holds the clients, so that credentials can be rotated while running."""

    def __init__(self, config: Config, now: Callable[[], datetime], rng: random.Random) -> None:
        self._switches = config.switches
        self._organization = config.organization
        self._sites = {site.id for site in config.sites}
        self._now = now
        self._rng = rng
        self.account_manager = {client.id: client for client in config.account_manager_clients}
        self.slas = {client.id: client for client in config.slas_clients}
        self._tokens: dict[str, Token] = {}
        self._logins: dict[str, datetime] = {}
        self._issued = 0
        self._sweep_at = SWEPT

    def find(self, bearer: str) -> Token | None:
        """The live token behind a bearer string; None where it is unknown, revoked or expired."""
        token = self._tokens.get(bearer)
        if token is None:
            return None
        if token.expires <= self._now():
            del self._tokens[bearer]
            return None
        return token

    def grant_account_manager(self, basic: tuple[str, str] | None, form: dict[str, str]) -> dict[str, object]:
        """Client-credentials grant. 401 invalid_client, 400 invalid_scope, unsupported_grant_type (Account Manager)."""
        client = self._client(self.account_manager, basic, "Client authentication failed")
        if form.get("grant_type") != "client_credentials":
            raise Refusal(400, "unsupported_grant_type", f"Grant type {form.get('grant_type')!r} is not supported.")
        asked = form.get("scope", "").split()
        tenants = [scope.split(":", 1)[1] for scope in asked if scope.startswith("SALESFORCE_COMMERCE_API:")]
        scopes = [scope for scope in asked if not scope.startswith("SALESFORCE_COMMERCE_API:")]
        for tenant in tenants:
            if tenant not in client.tenants:
                raise Refusal(400, "invalid_scope", f"The tenant filter of client {client.id} does not list {tenant}.")
        for scope in scopes:
            if not _covered(scope, client.scopes):
                raise Refusal(
                    400, "invalid_scope", f"The scope {scope} is not in the allowed list of client {client.id}."
                )
        seconds = self._switches.account_manager_token_seconds
        token = Token(
            kind="am",
            client_id=client.id,
            scopes=frozenset(scopes),
            tenant=tenants[0] if tenants else "",
            expires=self._now() + timedelta(seconds=seconds),
        )
        return {
            "access_token": self._issue(token),
            "scope": " ".join(asked),
            "token_type": "Bearer",
            "expires_in": seconds,
        }

    def grant_trusted_system(self, basic: tuple[str, str] | None, form: dict[str, str]) -> dict[str, object]:
        """Trusted-system token (SLAS OpenAPI, getTrustedSystemAccessToken): 400, 401, 409 with OAuth bodies."""
        for name in ("grant_type", "hint", "login_id", "idp_origin", "channel_id", "client_id"):
            if not form.get(name):
                raise Refusal(400, "invalid_request", f"Bad or missing {name}.")
        if form["grant_type"] != "client_credentials":
            raise Refusal(400, "unsupported_grant_type", f"Bad grant_type {form['grant_type']!r}.")
        if form["hint"] != "ts_ext_on_behalf_of":
            raise Refusal(400, "invalid_request", f"Bad hint {form['hint']!r}.")
        if form["idp_origin"] not in IDENTITY_PROVIDERS:
            raise Refusal(400, "invalid_request", f"Bad idp_origin {form['idp_origin']!r}.")
        for name, longest in (("login_id", 128), ("email_id", 128), ("channel_id", 100), ("client_id", 40)):
            if len(form.get(name, "")) > longest:
                raise Refusal(400, "invalid_request", f"{name} is longer than {longest} characters.")
        if form.get("dnt", "false") not in ("true", "false"):
            raise Refusal(400, "invalid_request", "dnt must be true or false.")
        client = self._client(self.slas, basic, "Authorization failed.")
        if client.id != form["client_id"]:
            raise Refusal(400, "invalid_request", "Bad or missing client_id.")
        if "sfcc.ts_ext_on_behalf_of" not in client.scopes:
            raise Refusal(401, "invalid_client", f"Client {client.id} lacks the scope sfcc.ts_ext_on_behalf_of.")
        if tenant_of(self._organization) not in client.tenants:
            raise Refusal(401, "invalid_client", f"Client {client.id} does not belong to {self._organization}.")
        if form["channel_id"] not in self._sites:
            raise Refusal(400, "invalid_request", f"Bad channel_id {form['channel_id']!r}: no such site.")
        login, now = form["login_id"], self._now()
        last = self._logins.get(login)
        if self._switches.slas_refuses_same_login_within_second and last and now - last < timedelta(seconds=1):
            raise Refusal(409, "conflict", "The same loginId and tenantId tried to login twice within 1 second.")
        self._logins[login] = now
        seconds = self._switches.slas_token_seconds
        token = Token(
            kind="tsob",
            client_id=client.id,
            scopes=frozenset(client.scopes),
            tenant=tenant_of(self._organization),
            expires=now + timedelta(seconds=seconds),
            login_id=login,
            email=form.get("email_id") or ("" if login == "guest" else login),
            channel=form["channel_id"],
        )
        user = hashlib.md5(login.encode(), usedforsecurity=False).hexdigest()
        return {
            "access_token": self._issue(token),
            "id_token": self._opaque("id"),
            "refresh_token": self._opaque("refresh"),
            "expires_in": seconds,
            "refresh_token_expires_in": 2_592_000,
            "token_type": "Bearer",
            "usid": form.get("usid") or _uuid(self._rng),
            "customer_id": "guest" if login == "guest" else user[:26],
            "enc_user_id": user.upper(),
            "idp_access_token": self._opaque("idp"),
        }

    def revoke(self, *, client_id: str = "", kind: str = "") -> int:
        """Forget the tokens of a client and/or of a kind; without either, all. Returns how many ended."""
        ended = [
            bearer
            for bearer, token in self._tokens.items()
            if (not client_id or token.client_id == client_id) and (not kind or token.kind == kind)
        ]
        for bearer in ended:
            del self._tokens[bearer]
        return len(ended)

    def rotate(self, kind: str, client_id: str, secret: str) -> None:
        """Give a client a new secret; tokens issued before stay valid until they expire or are revoked."""
        clients = self.account_manager if kind == "am" else self.slas
        if client_id not in clients:
            raise Refusal(404, "not-found", f"No {kind} client {client_id}; there are {', '.join(sorted(clients))}.")
        clients[client_id].secret = secret

    def _client(self, known: dict[str, ApiClient], basic: tuple[str, str] | None, message: str) -> ApiClient:
        client = known.get(basic[0]) if basic else None
        if client is None or basic is None or client.secret != basic[1]:
            raise Refusal(401, "invalid_client", message)
        return client

    def _issue(self, token: Token) -> str:
        bearer = self._opaque(token.kind)
        self._tokens[bearer] = token
        if len(self._tokens) >= self._sweep_at:
            now = self._now()
            self._tokens = {key: held for key, held in self._tokens.items() if held.expires > now}
            self._sweep_at = max(SWEPT, 2 * len(self._tokens))
        return bearer

    def _opaque(self, kind: str) -> str:
        self._issued += 1
        claims = {"iss": f"sandbox-{kind}", "jti": self._issued}
        parts = ({"alg": "none", "typ": "JWT"}, claims)
        encoded = [base64.urlsafe_b64encode(msgspec.json.encode(part)).decode().rstrip("=") for part in parts]
        return ".".join([*encoded, f"{self._rng.getrandbits(128):032x}"])


def _covered(scope: str, allowed: list[str]) -> bool:
    return scope in allowed or f"{scope}.rw" in allowed


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
