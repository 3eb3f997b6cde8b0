"""`bridge`: the command people type. Every sub-command is a module of `bridge.commands`."""

from __future__ import annotations

import typer

from bridge.commands import (
    check,
    dead_letters,
    demo,
    init,
    ledger,
    local,
    migrate,
    offsets,
    probe,
    republish,
    sandbox,
    up,
)

app = typer.Typer(
    help="Keeps a Salesforce B2C Commerce store and its Mirakl marketplace shops in step.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a local may hold a secret or somebody's address
)
app.command("local")(local.local)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("migrate")(migrate.migrate_all)
app.command("republish")(republish.republish_topic)
app.add_typer(offsets.app, name="offsets")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(ledger.app, name="ledger")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(probe.app, name="probe")


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
