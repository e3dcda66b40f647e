"""One style for every chart: SVG whose text stays text, readable on light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Contrast of at least 3:1 on GitHub's light (#ffffff) and dark (#0d1117) pages alike.
NEUTRAL, OURS = "#7d8590", "#e4572e"


@contextmanager
def style(salt: str, colour: str = NEUTRAL, /, **more: Any) -> Iterator[None]:
    """What a chart is drawn with; the same figures make the same file.

    Args:
        salt: of the names inside the SVG, which have to differ between pictures of one page.
        colour: of text and axes.
        more: of matplotlib's parameters.
    """
    from matplotlib import rc_context

    parts = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    svg = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}
    style: dict[Any, Any] = {**dict.fromkeys(parts, colour), **svg, **more}
    with rc_context(style):
        yield


def as_svg(figure: Any) -> str:
    """The chart without a date: the same figures make the same text."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return drawn.getvalue()
