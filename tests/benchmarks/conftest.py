"""Who commits in a test's own repositories, and a GitHub that has issues."""

from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks import issues


@pytest.fixture(autouse=True)
def git_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # it may ask for signatures
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")


class GitHubIssues:
    """What is sent to GitHub, and one answer to every question.

    Args:
        opened: the open issues.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]) -> None:
        self.opened = opened
        self.sent: list[tuple[str, str, Any]] = []
        monkeypatch.setattr(issues, "gh", self)

    def __call__(self, *args: str, body: Any = None) -> Any:
        if "GET" in args:
            return self.opened
        self.sent.append((args[1], args[-1], body))
        return {"html_url": "https://github.com/o/r/issues/3"}
