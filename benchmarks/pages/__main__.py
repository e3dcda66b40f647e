"""Draw every table and the pictures from what is recorded: ``nox -s pages``.

``nox -s ratios``, ``limits``, ``peers``, ``breakdown`` and ``effects`` measure, record, and draw.

Exit codes (through nox 0 or 1): 0 done, 2 could not; a target that is not met is said in the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from ..command import exit_code, say
from ..markdown import markers, write_between_markers
from ..one_run import sigterm_interrupts
from ..repository import ROOT
from . import breakdown, compatibility, effects, limits, peers, picture, ratios
from .records import read

MEASURED = {page.NAME: page for page in (ratios, limits, peers, breakdown, effects)}
STOPPED = "stopped; nothing of this run is recorded"
STOPPED_BETWEEN_ROWS = (
    "stopped; what was recorded stands in the table, effects -- --only WORDS measures the rest"
)


def drawn() -> Iterator[tuple[str, str, str]]:
    """Every table: its document, its place there, its text."""
    for page in (*MEASURED.values(), compatibility):
        for name, text in page.tables(read(page.NAME)).items():
            yield page.DOCUMENT, name, text


def draw_tables() -> None:
    """Write every table into its document.

    Raises:
        ValueError: a document has no place for one.
    """
    for document, name, text in drawn():
        write_between_markers(text, ROOT / document, *markers(name))


def draw_pictures() -> None:
    """Draw the README's pictures.

    Raises:
        ValueError: what it shows is not recorded.
    """
    picture.draw(read(ratios.NAME), read(limits.NAME), ROOT / picture.FILE)
    picture.draw_runtimes(read(peers.NAME), ROOT / picture.BESIDE_RUNTIMES)


def measure(args: argparse.Namespace) -> None:
    """Measure one page, print what was found, and draw what is recorded by then, whatever happens.

    With ``ratios -- --print`` nothing is recorded, and so nothing is drawn.
    """
    page, only_prints = MEASURED[args.page], getattr(args, "print", False)
    try:
        say("\n\n".join(page.tables(page.measure(args)).values()))
    finally:
        if not only_prints:
            draw_tables()
    if only_prints:
        return
    try:
        draw_pictures()
    except ValueError as error:
        print(f"the README's pictures stay as they are: {error}", file=sys.stderr)


def draw(args: argparse.Namespace) -> None:
    if args.page is None:
        draw_tables()
    draw_pictures()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s pages --", description=__doc__.split("\n\n")[0])
    pages = parser.add_subparsers(dest="page", metavar="PAGE")
    for name, page in MEASURED.items():
        assert page.__doc__ is not None
        one = pages.add_parser(name, prog=f"nox -s {name} --", description=page.__doc__.split("\n\n")[0])
        page.add_options(one)
    pages.add_parser("picture", prog="nox -s picture --", description="The README's pictures alone.")
    args = parser.parse_args(argv)
    stopped = STOPPED_BETWEEN_ROWS if args.page == effects.NAME else STOPPED
    work = measure if args.page in MEASURED else draw
    with sigterm_interrupts():
        return exit_code(args.page or "pages", lambda: work(args), interrupted=stopped)


if __name__ == "__main__":
    sys.exit(main())
