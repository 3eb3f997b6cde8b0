"""The two token issuers over HTTP: Account Manager and SLAS."""

from __future__ import annotations

from urllib.parse import parse_qsl

from sandbox.common.server import Answer
from sandbox.sfcc.gateway import Call, Operation, basic_credentials, organization_path
from sandbox.sfcc.refusals import Refusal

__all__ = ["OPERATIONS"]


def _form(call: Call) -> dict[str, str]:
    if call.request.content_type != "application/x-www-form-urlencoded":
        raise Refusal(400, "invalid_request", "The body must be application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl(call.raw.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Refusal(400, "invalid_request", "The form cannot be read.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Refusal(400, "invalid_request", "A form field is given twice.")
    return form


def account_manager(call: Call) -> Answer:
    """A system token for client credentials."""
    return Answer(payload=call.instance.tokens.grant_account_manager(basic_credentials(call.request), _form(call)))


def trusted_system(call: Call) -> Answer:
    """A shopper token for a trusted system."""
    return Answer(payload=call.instance.tokens.grant_trusted_system(basic_credentials(call.request), _form(call)))


OPERATIONS = (
    Operation(
        id="getAccessToken",
        method="POST",
        path="/dwsso/oauth2/access_token",
        family="oauth",
        handler=account_manager,
        source="Account Manager",
    ),
    Operation(
        id="getTrustedSystemAccessToken",
        method="POST",
        path=organization_path("/shopper/auth/v1", "/oauth2/trusted-system/token"),
        family="slas",
        handler=trusted_system,
        source="Shopper Login OpenAPI 1.50.0",
    ),
)
