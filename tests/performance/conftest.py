"""Options of ``nox -s bench``; without pytest-benchmark there is nothing to collect here."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks.suite.workloads import DEVICES, PHASES, PRECISIONS, WORKLOADS

NEEDS_IT = ["test_check_of_weights.py", "test_step_time.py"]
collect_ignore = [] if importlib.util.find_spec("pytest_benchmark") else NEEDS_IT


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("steps to time")
    group.addoption("--workload", action="append", choices=list(WORKLOADS), help="default: aloha and pusht")
    group.addoption("--phase", action="append", choices=PHASES, help="default: inference")
    group.addoption("--precision", choices=PRECISIONS, default="fp32")
    group.addoption("--device", choices=DEVICES, default="cpu")
