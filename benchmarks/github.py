"""GitHub's API through the command gh, and the one issue that each scheduled job keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from .repository import MeasurementError

AUTHOR = "github-actions[bot]"  # whose the issues of a job's own token are
LONGEST = 65_536  # characters; GitHub refuses an issue or a comment with more
LEFT_OUT = "\n\nThe rest does not fit into an issue; the job's log has all of it.\n"
PAGE = 100  # issues in one answer, the most that GitHub gives


def gh(*args: str, body: Mapping[str, Any] | None = None) -> Any:
    """The JSON that ``gh api ARGS`` answers.

    Raises:
        MeasurementError: gh failed, and its last line is the message; or it answered no JSON.
    """
    command, sent = ["gh", "api", *args], None
    if body is not None:
        command, sent = [*command, "--input", "-"], json.dumps(body)
    done = subprocess.run(command, input=sent, capture_output=True, errors="replace", check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise MeasurementError(f"gh api {args[-1]}: {said}")
    try:
        return json.loads(done.stdout) if done.stdout.strip() else None
    except ValueError:
        raise MeasurementError(f"gh api {args[-1]}: answered no JSON") from None


def fitting(body: str) -> str:
    """An issue's or a comment's text, cut after a whole line where it is longer than GitHub takes."""
    if len(body) <= LONGEST:
        return body
    return body[: LONGEST - len(LEFT_OUT)].rpartition("\n")[0] + LEFT_OUT


def _own_open_issue(repository: str, label: str) -> int | None:
    """The number of the newest open issue with ``label`` that a job opened.

    Whoever may set labels can put this one on an issue or a pull request of their own, and GitHub lists pull
    requests among the issues (docs.github.com/rest/issues/issues#list-repository-issues). Those stay as they
    are.
    """
    where = f"repos/{repository}/issues"
    asked = {"labels": label, "state": "open", "creator": AUTHOR, "per_page": PAGE}
    fields = [word for name, value in asked.items() for word in ("-f", f"{name}={value}")]
    found = gh("--method", "GET", *fields, where)
    own = (
        issue["number"]
        for issue in found
        if (issue.get("user") or {}).get("login") == AUTHOR and "pull_request" not in issue
    )
    return next(map(int, own), None)


def open_or_update_issue(repository: str, label: str, title: str, body: str) -> str:
    """Open an issue with ``label``, or bring the open one up to date; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    where, number = f"repos/{repository}/issues", _own_open_issue(repository, label)
    text = {"title": title, "body": fitting(body)}
    if number is None:
        return f"issue opened: {gh('--method', 'POST', where, body={**text, 'labels': [label]})['html_url']}"
    return f"issue brought up to date: {gh('--method', 'PATCH', f'{where}/{number}', body=text)['html_url']}"


def close_issue(repository: str, label: str, why: str) -> str | None:
    """Close the open issue with ``label``, and say why in it; None where there is none.

    Raises:
        MeasurementError: gh failed.
    """
    where, number = f"repos/{repository}/issues", _own_open_issue(repository, label)
    if number is None:
        return None
    gh("--method", "POST", f"{where}/{number}/comments", body={"body": f"Closed: {why}."})
    gh("--method", "PATCH", f"{where}/{number}", body={"state": "closed"})
    return f"issue {number} closed: {why}"
