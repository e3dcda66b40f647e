"""What stands in the tables: ``recorded/NAME.jsonl``, one record a row, kept in git. No torch.

A record has the ``row`` it is, its ``case`` where there is one, numbers (times in s unless they are named
``ms``), and ``about``: machine, versions, subject, how often, and the date where it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .. import records
from ..records import Record, described, today
from ..repository import PACKAGE, git
from ..suite.workloads import PRECISIONS

RECORDED = Path(__file__).with_name("recorded")
ENVIRONMENT = ("cpu", "threads", "torch", "lerobot", "python", "device", "flags")


def path_of(name: str) -> Path:
    return RECORDED / f"{name}.jsonl"


def read(name: str) -> list[Record]:
    """The rows of a table, of all machines."""
    return records.read(path_of(name))


def keep(name: str, new: Iterable[Record], stays: Callable[[Record], bool] = lambda _: True) -> None:
    """Put rows in place of those of the same name, case and machine.

    Args:
        stays: whether an old row stays that has not been measured anew.
    """
    measured = {_key(record): record for record in new}
    rows = {_key(record): record for record in read(name) if stays(record) or _key(record) in measured}
    records.write(path_of(name), (rows | measured).values())


def _key(record: Record) -> tuple[str, str | None, str]:
    return record["row"], record.get("case"), machine(record["about"])


def machine(about: Mapping[str, Any]) -> str:
    """What tells machines' tables apart: processors differ by more than twice in bf16."""
    device = str(about.get("device", ""))
    return f"{device} {about['cpu']}" if device == "cpu" else device


def by_machine(rows: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in rows:
        found.setdefault(machine(record["about"]), []).append(record)
    return found


def about(environment: Mapping[str, Any], device: str, root: Path, **how: Any) -> dict[str, Any]:
    """What a record keeps beside its figures.

    Args:
        environment: as a launch answers it.
        root: the repository whose subject was measured.
        how: what else belongs there: launches, seconds, precision, the machine's rates.
    """
    return {**environment, "device": device, "subject": subject(root), "date": today(), **how}


def subject(root: Path) -> str:
    """Which commit changed what is measured last, and whether the working tree has changed it since."""
    commit = git("log", "-1", "--format=%h", "--", PACKAGE, root=root)
    changed = git("status", "--porcelain", "--", PACKAGE, root=root)
    return f"{commit} with uncommitted changes" if changed else commit


def is_same(one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str] = ()) -> bool:
    """Whether two ``about`` say the same, by these names or by all but the date."""
    names = names or ({*one, *other} - {"date"})
    return all(one.get(name) == other.get(name) for name in names)


def measured_on(about: Mapping[str, Any]) -> str:
    """The sentence above a table."""
    how = ", ".join(about[name] for name in ("device", "precision") if name in about)
    flags = f" ({about['flags']})" if about.get("flags", "fp32") != "fp32" else ""  # a CPU has none
    return (
        f"{described(about)}, {how}{flags}; inference and rollout batch 1, training batch 8; "
        f"the subject as of {about['subject']}."
    )


def reached(rates: Mapping[str, Any]) -> str:
    """What products do on the machine, older records ``torch.mm`` alone; and a copy where it was measured."""
    products = ", ".join(f"{name} {rates[name] / 1e9:.0f}" for name in PRECISIONS)
    copy = f"; a copy {rates['bytes'] / 1e9:.0f} GB/s" if "bytes" in rates else ""
    return f"{rates.get('of', 'torch.mm')} reaches {products} GFLOP/s{copy}."


def summary(launches: Sequence[float]) -> dict[str, Any]:
    """A figure of several launches: each of them, and median, least and most."""
    ends = {"least": min(launches), "most": max(launches)} if len(launches) > 1 else {}
    return {"launches": list(launches), "median": median(launches), **ends}


def is_summary(found: object) -> bool:
    return isinstance(found, dict) and "median" in found


def spread(found: Mapping[str, Any]) -> str:
    """Median of a ``summary``, and in brackets the least and the most where there are several."""
    ends = f" ({found['least']:.2f} to {found['most']:.2f})" if "least" in found else ""
    return f"{found['median']:.2f}{ends}"
