"""A GitHub that has issues."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import github


class GitHubIssues:
    """What is sent to GitHub, and one answer to every question.

    Args:
        opened: the open issues.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]) -> None:
        self.opened = opened
        self.sent: list[tuple[str, str, Any]] = []
        monkeypatch.setattr(github, "gh", self)

    def __call__(self, *args: str, body: Any = None) -> Any:
        if "GET" in args:
            return self.opened
        self.sent.append((args[1], args[-1], body))
        return {"html_url": "https://github.com/o/r/issues/3"}
