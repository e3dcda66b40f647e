"""One issue for what a scheduled job found: opened, brought up to date, closed when all is well again."""

from __future__ import annotations

from .gate.comment import gh


def _open(repository: str, label: str) -> int | None:
    where = f"repos/{repository}/issues"
    found = gh("--method", "GET", "-f", f"labels={label}", "-f", "state=open", where)
    return int(found[0]["number"]) if found else None


def keep_issue(repository: str, label: str, title: str, body: str) -> str:
    """Open the issue that bears ``label``, or bring the open one up to date; what was done.

    Raises:
        MeasurementError: gh failed.
    """
    where, number, text = (
        f"repos/{repository}/issues",
        _open(repository, label),
        {"title": title, "body": body},
    )
    if number is None:
        return f"issue opened: {gh('--method', 'POST', where, body={**text, 'labels': [label]})['html_url']}"
    return f"issue brought up to date: {gh('--method', 'PATCH', f'{where}/{number}', body=text)['html_url']}"


def close_issue(repository: str, label: str, why: str) -> str | None:
    """Close the issue that bears ``label``, and say why in it; None where there is none.

    Raises:
        MeasurementError: gh failed.
    """
    where, number = f"repos/{repository}/issues", _open(repository, label)
    if number is None:
        return None
    gh("--method", "POST", f"{where}/{number}/comments", body={"body": f"Closed: {why}."})
    gh("--method", "PATCH", f"{where}/{number}", body={"state": "closed"})
    return f"issue {number} closed: {why}"
