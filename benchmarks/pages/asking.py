"""Fresh processes asked one by one, with a progress bar, for the pages that measure."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..one_run import alone
from ..repository import ROOT
from ..suite.launch import as_request, launch
from ..suite.workloads import Case


def at_least(least: int) -> Callable[[str], int]:
    """A number that an option takes."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"takes at least {least}")
        return int(text)

    return number


Ask = Callable[..., dict[str, Any]]  # of what to do and with which cases; see ``asking``


@contextmanager
def asking(total: int) -> Iterator[tuple[Ask, Path]]:
    """``ask(do, cases, cache="warm", **options)``, answered as ``launch`` does; a directory to be used.

    Launches of one ``cache`` share Inductor's, which is empty at first.

    Args:
        total: how many launches will be asked.

    Raises:
        MeasurementError: something else measures in this checkout.
    """
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        alone(ROOT),
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        place = Path(directory)
        task = progress.add_task("", total=total)

        def ask(do: str, cases: Sequence[Case], cache: str = "warm", **options: Any) -> dict[str, Any]:
            progress.update(task, description=f"{do.replace('_', ' ')}: {cases[-1]}")
            answer = launch(as_request(do, cases, **options), inductor_cache=place / cache)
            progress.advance(task)
            return answer

        yield ask, place
