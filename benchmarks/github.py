"""GitHub's API through the command gh, and the one issue that each scheduled job keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from .repository import MeasurementError


def gh(*args: str, body: Mapping[str, Any] | None = None) -> Any:
    """The JSON that ``gh api ARGS`` answers.

    Raises:
        MeasurementError: gh failed; its last line is the message.
    """
    command, sent = ["gh", "api", *args], None
    if body is not None:
        command, sent = [*command, "--input", "-"], json.dumps(body)
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise MeasurementError(f"gh api {args[-1]}: {said}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def _open_issue(repository: str, label: str) -> int | None:
    where = f"repos/{repository}/issues"
    found = gh("--method", "GET", "-f", f"labels={label}", "-f", "state=open", where)
    return int(found[0]["number"]) if found else None


def open_or_update_issue(repository: str, label: str, title: str, body: str) -> str:
    """Open an issue with ``label``, or bring the open one up to date; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    where, number = f"repos/{repository}/issues", _open_issue(repository, label)
    text = {"title": title, "body": body}
    if number is None:
        return f"issue opened: {gh('--method', 'POST', where, body={**text, 'labels': [label]})['html_url']}"
    return f"issue brought up to date: {gh('--method', 'PATCH', f'{where}/{number}', body=text)['html_url']}"


def close_issue(repository: str, label: str, why: str) -> str | None:
    """Close the open issue with ``label``, and say why in it; None where there is none.

    Raises:
        MeasurementError: gh failed.
    """
    where, number = f"repos/{repository}/issues", _open_issue(repository, label)
    if number is None:
        return None
    gh("--method", "POST", f"{where}/{number}/comments", body={"body": f"Closed: {why}."})
    gh("--method", "PATCH", f"{where}/{number}", body={"state": "closed"})
    return f"issue {number} closed: {why}"
