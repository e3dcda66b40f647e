"""Where a run of the gate puts its things, one run at a time in a checkout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..one_run import alone
from .prune import prune


@contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """A directory for one run, of which nothing stays; what a killed run left goes with the next.

    Raises:
        MeasurementError: something else is being measured in the checkout.
    """
    home = root / ".gate"
    with alone(root):
        place = home / "run"
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            prune(home)  # after the run, so that a cache which is saved then is no larger
