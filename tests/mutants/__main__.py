"""`make mutants ARGS="--only WORD --json"`: seed each defect in a copy of the tree; its test must fail there.

Exit status 0 only when every test passes without defects and every defect is caught.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.embedded.addresses import addresses
from tests.mutants.defects import DEFECTS, Defect

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("shared", "bridge", "services", "tests", "schemas", "pyproject.toml")
TEST_SECONDS: Final = 120.0

console = Console(stderr=True)


def copy_tree(target: Path) -> None:
    """What the tests need, without what other runs compiled."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def applied(defect: Defect, text: str) -> str | None:
    """The file's text with the defect in it, or None where it no longer applies."""
    return text.replace(defect.old, defect.new) if text.count(defect.old) == 1 else None


def run_tests(tree: Path, environment: dict[str, str], tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in the copy; pytest's exit status and the end of what it said."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", str(TEST_SECONDS),
             *(f"tests/integration/{test}" for test in tests)],
            cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS * 3, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, "the test did not end"
    return done.returncode, (done.stdout + done.stderr)[-4_000:]


def verdict_on(defect: Defect, tree: Path, environment: dict[str, str]) -> str:
    """`caught`, `survived`, or why it could not be tried."""
    path = tree / defect.file
    sound = path.read_text()
    broken = applied(defect, sound)
    if broken is None:
        return "no longer applies"
    path.write_text(broken)
    try:
        status, said = run_tests(tree, environment, [defect.test])
    finally:
        path.write_text(sound)
    match status:
        case 0:
            return "survived"
        case 1:
            return "caught"
        case _:
            return f"pytest ended with {status}: {said}"


def mutants(
    only: Annotated[str | None, typer.Option(help="Only defects whose name has this in it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Only one JSON object.")] = False,
) -> None:
    """Seed defects and see that a test catches each."""
    chosen = [defect for defect in DEFECTS if only is None or only in defect.name]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, addresses() as (kafka, postgres):
        tree = Path(folder)
        copy_tree(tree)
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": postgres,
            "PYTHONPATH": str(tree),
            # A file that changes within one second at the same length would be taken from its old bytecode.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        where = subprocess.run(
            [sys.executable, "-c", "import shared.consumer; print(shared.consumer.__file__)"],
            cwd=tree, env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        if not Path(where).is_relative_to(tree.resolve()):
            raise RuntimeError(f"the tests would run against {where}, not against the copy in {tree}")
        status, said = run_tests(tree, environment, sorted({defect.test for defect in chosen}))
        if status:
            console.print(said, markup=False)
            console.print("without any defect the tests must pass, and they do not", style="red")
            raise typer.Exit(1)
        verdicts: dict[str, str] = {}
        for number, defect in enumerate(chosen, 1):
            with console.status(f"{number}/{len(chosen)} {defect.name}"):
                verdicts[defect.name] = verdict_on(defect, tree, environment)
    caught = sum(verdict == "caught" for verdict in verdicts.values())
    if not as_json:
        table = Table("Defect", "Test", "Verdict")
        for defect in chosen:
            verdict = verdicts[defect.name]
            style = "green" if verdict == "caught" else "red"
            table.add_row(defect.name, defect.test.partition("::")[2], f"[{style}]{escape(verdict)}[/]")
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    others = {name: verdict for name, verdict in verdicts.items() if verdict != "caught"}
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"defects": len(chosen), "caught": caught, "not_caught": others, "seconds": seconds}))
    raise typer.Exit(0 if caught == len(chosen) else 1)


if __name__ == "__main__":
    typer.run(mutants)
