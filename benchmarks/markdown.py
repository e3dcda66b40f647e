"""Text that a program writes: templates, Markdown tables, and text of strangers made harmless. No torch."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from .files import write_whole

ZERO_WIDTH_SPACE = "\u200b"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def cell(text: str) -> str:
    """Text that stays what it is in a Markdown table: commit messages and errors are anybody's."""
    text = "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    text = re.sub(r"([\\|`*_\[\]~])", r"\\\1", html.escape(text, quote=False))
    text = text.replace("$", "<span>$</span>")  # no formula begins here, GitHub's guide on formulas says
    # GitHub finds mentions, references and addresses in what is rendered, where no backslash is left.
    return re.sub(
        r"(@|#|GH-|https?://|ftp://|mailto:|www\.)", r"\1" + ZERO_WIDTH_SPACE, text, flags=re.IGNORECASE
    )


def render(template: Path, **fields: Any) -> str:
    """Text of a template. HTML escapes every field; Markdown escapes what is not ours, with ``cell``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(cell=cell, **fields)


def markers(name: str) -> tuple[str, str]:
    """What a table of measured figures stands between; the first word of ``name`` is the nox session's."""
    return f"<!-- {name}: written by nox -s {name.split()[0]} -->", f"<!-- /{name} -->"


def between_markers(path: Path, begin: str, end: str) -> str:
    """What stands between ``begin`` and ``end`` in ``path``.

    Raises:
        ValueError: the markers are not there.
    """
    return _split(path, begin, end)[1].strip()


def write_between_markers(text: str, path: Path, begin: str, end: str) -> None:
    """Replace what stands between ``begin`` and ``end`` in ``path``.

    Raises:
        ValueError: the markers are not there.
    """
    before, _, after = _split(path, begin, end)
    write_whole(path, f"{before}{begin}\n{text}\n{end}{after}")


def _split(path: Path, begin: str, end: str) -> tuple[str, str, str]:
    before, opened, rest = path.read_text(encoding="utf-8").partition(begin)
    inside, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{path.name} has no place for these figures; put {begin} and {end} into it")
    return before, inside, after
