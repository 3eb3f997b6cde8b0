"""`python -m sandbox [--check]`: writes into docs/sandbox*.md what is served and what is left out, from the code.

With --check nothing is written; the exit code is 1 where a page is not what the code says.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

from sandbox.mirakl import config
from sandbox.mirakl.app import Sandbox
from sandbox.mirakl.control import Control
from sandbox.mirakl.operations import LEFT_OUT, OPERATIONS, Operation, Windows
from sandbox.sfcc import app as sfcc

DOCS = Path(__file__).resolve().parents[1] / "docs"
CALLS, SFCC, GUIDE = DOCS / "sandbox-calls.md", DOCS / "sandbox-sfcc.md", DOCS / "sandbox.md"
HEAD = """# The calls of the Mirakl sandbox

Written by `make schemas` from the code; a test compares. How to use them: [sandbox.md](sandbox.md). The calls of
the SFCC sandbox stand in [its own page](sandbox-sfcc.md).
"""


def _span(seconds: float) -> str:
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return name if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"


def _windows(windows: Windows) -> str:
    return ", ".join(f"{calls} per {_span(seconds)}" for calls, seconds in windows)


def _limit(operation: Operation) -> str:
    texts = [_windows(operation.windows)] if operation.windows else []
    texts += [f"{name}: {_windows(windows)}" for name, windows in operation.variants]
    return "; ".join(texts) or "–"


def _paging(operation: Operation) -> str:
    if operation.paging is None:
        return "–"
    name = "max" if operation.paging.style == "offset" else "limit"
    return f"{operation.paging.style}, {name} ≤ {operation.paging.most}"


def _roles(operation: Operation) -> str:
    if operation.roles is None:
        return "no key"
    return ", ".join(role.removeprefix("ROLE_") for role in operation.roles) or "any key"


def mirakl_calls() -> str:
    rows = ["| Code | Call | What it does | Highest frequency | Paging | Role, any of |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {one.code} | {one.method} `{one.path}` | {one.title} | {_limit(one)} | {_paging(one)} | {_roles(one)} |"
        for one in OPERATIONS
    ]
    return "\n".join(rows)


def left_out() -> str:
    return "\n".join(f"- {reason} {', '.join(codes)}." for reason, codes in LEFT_OUT)


def control_calls() -> str:
    rows = ["| Call | What it does |", "|---|---|"]
    endpoints = Control(Sandbox(config.default_config())).endpoints()
    rows += [f"| {one.method} `{one.path}` | {one.title} |" for one in endpoints]
    return "\n".join(rows)


def choices() -> str:
    """The settings for what the contract leaves open, with their words from the code."""
    rows = ["| `behaviour` | Usually | What it decides |", "|---|---|---|"]
    tree = ast.parse(inspect.getsource(config.Behaviour))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    described: dict[str, str] = {}
    name = ""
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            described[name] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            described[name] = " ".join(str(node.value.value).split())
    usual = config.Behaviour()
    for field, text in described.items():
        rows.append(f"| `{field}` | `{getattr(usual, field)}` | {text} |")
    return "\n".join(rows)


def sfcc_calls() -> str:
    """Every operation of the SFCC sandbox with the published document it follows, and what is left out."""
    rows = ["| Operation | Call | Does | From |", "|---|---|---|---|"]
    for one in sfcc.OPERATIONS:
        does = " ".join((one.handler.__doc__ or "").split("\n\n")[0].split())
        path = one.path.replace("/organizations/{organizationId}", "/…").replace("{tail:.+}", "…")
        rows.append(f"| `{one.id}` | {one.method} `{path}` | {does} | {one.source} |")
    return "\n".join([*rows, "", "Not there, and why:", "", sfcc_left_out()])


def sfcc_left_out() -> str:
    return "\n".join(f"- {what}: {why}." for what, why in sfcc.LEFT_OUT)


def covered() -> str:
    """The calls of both sandboxes by their names, and what is left out."""
    return f"""Mirakl: {", ".join(one.code for one in OPERATIONS)}. Left out:

{left_out()}

SFCC: {", ".join(f"`{one.id}`" for one in sfcc.OPERATIONS)}. Left out:

{sfcc_left_out()}"""


def mirakl_page() -> str:
    return f"""{HEAD}
## Mirakl: the seller API

Paths stand below the marketplace's name, `/alpha/api/orders`. Parameters, bodies and answers are those of the
published seller API.

{mirakl_calls()}

Not there, and why:

{left_out()}

## Mirakl: the control API

Described by its own OpenAPI document, `/control/openapi.json`.

{control_calls()}

## Mirakl: where the contract is silent

Each choice is a field of a marketplace's `behaviour`, in the configuration file or by
`PATCH /control/behaviour/<marketplace>`.

{choices()}
"""


def pages() -> dict[Path, str]:
    """Every page with what the code says in its place."""
    return {
        CALLS: mirakl_page(),
        SFCC: _filled(SFCC.read_text("utf-8"), sfcc_calls()),
        GUIDE: _filled(GUIDE.read_text("utf-8"), covered()),
    }


def _filled(text: str, calls: str) -> str:
    """The page with its list of calls, which stands between two marks, replaced."""
    marks = re.compile(r"(<!-- calls: .*? -->\n).*(<!-- end of calls -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}{calls}\n{found[2]}", text)


def main() -> None:
    """See the module."""
    for path, text in pages().items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text, "utf-8")
        elif path.read_text("utf-8") != text:
            sys.exit(f"docs/{path.name} is not what the code says: run `make schemas`")


if __name__ == "__main__":
    main()
