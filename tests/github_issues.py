"""A GitHub that has issues."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import github
from benchmarks.repository import MeasurementError


class GitHubIssues:
    """What is sent to GitHub; it answers with its open issues, and refuses what GitHub refuses.

    Args:
        opened: the open issues, pull requests among them; each is the bot's unless it says whose it is.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]) -> None:
        self.opened = [{"user": {"login": github.AUTHOR}, **issue} for issue in opened]
        self.asked: list[str] = []
        self.sent: list[tuple[str, str, Any]] = []
        monkeypatch.setattr(github, "gh", self)

    def __call__(self, *args: str, body: Any = None) -> Any:
        if "GET" in args:
            self.asked += args
            return self.opened
        if len(body.get("body", "")) > 65_536:
            raise MeasurementError("body is too long (maximum is 65536 characters)")
        if len(body.get("title", "")) > 256:
            raise MeasurementError("title is too long (maximum is 256 characters)")
        self.sent.append((args[1], args[-1], body))
        return {"html_url": "https://github.com/o/r/issues/3"}
