"""A job keeps one issue, and touches nobody else's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.github import LEFT_OUT, close_issue, open_or_update_issue
from benchmarks.github import gh as ask
from benchmarks.repository import MeasurementError

from .github_api import GitHub

PULL_REQUEST: dict[str, Any] = {"number": 4, "pull_request": {"url": "https://github.com/o/r/pull/4"}}
A_PERSONS: dict[str, Any] = {"number": 5, "user": {"login": "somebody"}}
ANOTHER_BOTS: dict[str, Any] = {"number": 6, "user": {"login": "github-actions"}}
A_GHOSTS: dict[str, Any] = {"number": 7, "user": None}  # whose account is deleted
OTHERS = [PULL_REQUEST, A_PERSONS, ANOTHER_BOTS, A_GHOSTS]


@pytest.mark.parametrize("other", OTHERS, ids=lambda issue: str(issue["number"]))
def test_what_others_opened_is_neither_edited_nor_closed(github: GitHub, other: dict[str, Any]) -> None:
    github.with_issues(other)
    assert close_issue("o/r", "upstream", "all is well") is None
    assert github.sent == []
    assert open_or_update_issue("o/r", "upstream", "title", "body").startswith("issue opened")
    assert [(method, where) for method, where, _ in github.sent] == [("POST", "repos/o/r/issues")]


def test_the_own_issue_is_found_among_those_of_others(github: GitHub) -> None:
    github.with_issues(*OTHERS, {"number": 3}, {"number": 2})
    open_or_update_issue("o/r", "upstream", "title", "body")
    assert github.sent[0][:2] == ("PATCH", "repos/o/r/issues/3")
    assert close_issue("o/r", "upstream", "well") == "issue 3 closed: well"
    # Thirty issues of others would fill GitHub's first page otherwise.
    assert {"creator=github-actions[bot]", "labels=upstream", "state=open", "per_page=100"} <= set(
        github.calls[0]["arguments"]
    )


def test_a_long_text_is_cut_after_a_whole_line_and_says_so(github: GitHub) -> None:
    github.with_issues()
    line = "- " + "\u20ac" * 60 + "\n"
    open_or_update_issue("o/r", "upstream", "title", line * 5000)
    ((_, _, sent),) = github.sent
    kept, said, rest = sent["body"].partition(LEFT_OUT)
    assert (said, rest) == (LEFT_OUT, "")
    assert set(kept.split("\n")) == {line[:-1]}
    assert len(sent["body"]) > 65_000
    open_or_update_issue("o/r", "upstream", "title", "x" * 65_536)
    assert github.sent[-1][2]["body"] == "x" * 65_536, "this fits"


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo '<html>'", "answered no JSON"), ("echo 'HTTP 403' >&2; exit 1", "HTTP 403")],
)
def test_what_gh_answers_may_be_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    (tmp_path / "gh").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(MeasurementError, match=f"gh api repos/o/r: {message}"):
        ask("repos/o/r")
