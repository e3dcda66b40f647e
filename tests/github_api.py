"""A ``gh`` that keeps pull requests, issues, comments and statuses, and refuses what GitHub refuses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

RUN_URL = "https://github.com/o/r/actions/runs/1"
HEAD = "b" * 40
BOT = "github-actions[bot]"
REPOSITORY = {"full_name": "o/r", "html_url": "https://github.com/o/r", "default_branch": "main"}

# https://docs.github.com/en/rest: a token without the permission gets 403, a body that is too long 422.
GH = """#!{python}
import json, os, re, sys
from pathlib import Path

def refuse(why, code=1):
    print("gh: " + why, file=sys.stderr)
    sys.exit(code)

file = Path(os.environ["FAKE_GH"])
state = json.loads(file.read_text())
arguments, body = sys.argv[2:], None
if "--input" in arguments:
    at = arguments.index("--input")
    body, arguments = json.loads(sys.stdin.read()), arguments[:at] + arguments[at + 2:]
state["calls"].append({{"arguments": arguments, "body": body}})
file.write_text(json.dumps(state))
if not os.environ.get("GH_TOKEN"):
    refuse("To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable.", 4)
if state.get("fails"):
    refuse("Resource not accessible by integration (HTTP 403)")
if "--slurp" in arguments and "--paginate" not in arguments:
    refuse("`--slurp` requires `--paginate`")
method = arguments[arguments.index("--method") + 1] if "--method" in arguments else "GET"
path, _, query = arguments[-1].partition("?")

def writes(*permissions):
    if not any(state["permissions"].get(each) == "write" for each in permissions):
        refuse("Resource not accessible by integration (HTTP 403)")

def answer(found, pages=False):
    file.write_text(json.dumps(state))
    print(json.dumps([found[:1], found[1:]] if pages else found))
    sys.exit(0)

if method == "GET" and path == "repos/o/r/pulls":
    answer(state["pulls"], pages=True)
if method == "GET" and re.fullmatch("repos/o/r/pulls/[0-9]+/files", path):
    answer(state["files"], pages=True)
if method == "POST" and (found := re.fullmatch("repos/o/r/statuses/([0-9a-f]{{40}})", path)):
    writes("statuses")
    state["statuses"][found[1]] = body["state"]
    answer({{}})
if method == "GET" and path == "repos/o/r/issues":
    given = dict(word.split("=", 1) for at, word in enumerate(arguments) if arguments[at - 1] == "-f")
    labels, creator = given.get("labels", ""), given.get("creator")
    answer([
        issue for issue in state["issues"]
        if issue["state"] == given.get("state", "open") and (not labels or labels in issue["labels"])
        and creator in (None, (issue["user"] or {{}}).get("login"))
    ][:int(given.get("per_page", 30))])
if found := re.fullmatch("repos/o/r/issues(?:/([0-9]+))?", path):
    writes("issues")
    if found[1]:
        (issue,) = [each for each in state["issues"] if each["number"] == int(found[1])]
    else:
        number = 1 + max([each["number"] for each in state["issues"]], default=0)
        issue = {{"number": number, "state": "open", "user": {{"login": "{bot}"}}}}
        state["issues"].insert(0, issue)
    for name, most in {{"title": 256, "body": 65536}}.items():
        if len(body.get(name, "")) > most:
            refuse(f"Validation Failed: {{name}} is too long (maximum is {{most}} characters) (HTTP 422)")
    issue.update(body)
    answer({{"html_url": f"https://github.com/o/r/issues/{{issue['number']}}"}})
if found := re.fullmatch("repos/o/r/issues/([0-9]+)/comments", path):
    if method == "GET":
        answer([each for each in state["comments"] if each["pull"] == int(found[1])], pages=True)
    comment = {{"id": 100 + len(state["comments"]), "pull": int(found[1]), "user": {{"login": "{bot}"}}}}
    state["comments"].append(comment)
elif method == "PATCH" and (found := re.fullmatch("repos/o/r/issues/comments/([0-9]+)", path)):
    (comment,) = [each for each in state["comments"] if each["id"] == int(found[1])]
    if (comment["user"] or {{}}).get("login") != "{bot}":
        refuse("Must have admin rights to Repository. (HTTP 403)")
else:
    refuse("Not Found (HTTP 404)")
writes("pull-requests", "issues")
if len(body["body"]) > 65536:
    refuse("Validation Failed: body is too long (maximum is 65536 characters) (HTTP 422)")
comment["body"] = body["body"]
answer({{"html_url": "https://github.com/o/r/pull/7#comment"}})
"""


def pull(number: int, sha: str, *, forked: bool = True) -> dict[str, Any]:
    """As GitHub lists it; the head's repository is null where the fork is deleted."""
    return {"number": number, "head": {"sha": sha, "repo": {"id": 2} if forked else None}}


def comment(number: int, body: str | None, login: str | None = BOT, on: int = 7) -> dict[str, Any]:
    """As GitHub lists it; the user is null where the account is deleted."""
    return {"id": number, "pull": on, "user": {"login": login} if login else None, "body": body}


def workflow_run(
    sha: str = HEAD, *, conclusion: str = "failure", event: str = "pull_request"
) -> dict[str, Any]:
    """The event of a run of gate.yml that has ended, for a pull request of a fork: it lists none."""
    run = {
        "head_sha": sha,
        "head_branch": "patch-1",
        "head_repository": {"id": 2, "owner": {"login": "stranger"}},
        "pull_requests": [],
        "event": event,
        "conclusion": conclusion,
        "html_url": RUN_URL,
        "id": 1,
        "run_attempt": 1,
    }
    return {"action": "completed", "workflow_run": run, "repository": REPOSITORY}


class GitHub:
    """What GitHub holds; the token may do what comment.yml asks for."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = directory / "gh.json"
        program = directory / "bin" / "gh"
        program.parent.mkdir()
        program.write_text(GH.format(python=sys.executable, bot=BOT))
        program.chmod(0o755)
        self.event = directory / "event.json"
        self.happens(workflow_run())
        monkeypatch.setenv("FAKE_GH", str(self.state))
        monkeypatch.setenv("GITHUB_EVENT_PATH", str(self.event))
        monkeypatch.setenv("GITHUB_RUN_ID", "1")
        monkeypatch.setenv("GH_TOKEN", "of the job")
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        self.holds()

    def happens(self, event: Mapping[str, Any]) -> None:
        """The event that started the job."""
        self.event.write_text(json.dumps(event))

    def holds(self, **state: Any) -> None:
        """What is there before the job; by default two open pull requests, number 7 with HEAD."""
        beginning = {
            "calls": [],
            "pulls": [pull(7, HEAD), pull(8, "c" * 40)],
            "files": [{"filename": "README.md", "status": "modified"}],
            "comments": [],
            "issues": [],
            "statuses": {},
            "permissions": {"pull-requests": "write"},
        }
        self.state.write_text(json.dumps({**beginning, **state}))

    def with_issues(self, *issues: dict[str, Any], label: str = "upstream") -> GitHub:
        """These are open, pull requests among them; each is the bot's unless it says whose it is."""
        bots = {"user": {"login": BOT}, "state": "open", "labels": [label]}
        self.holds(issues=[bots | issue for issue in issues], permissions={"issues": "write"})
        return self

    def change(self, **state: Any) -> None:
        self.state.write_text(json.dumps({**json.loads(self.state.read_text()), **state}))

    def __getitem__(self, name: str) -> Any:
        return json.loads(self.state.read_text())[name]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return list(self["calls"])

    @property
    def sent(self) -> list[tuple[str, str, Any]]:
        """What is to be changed: method, path, content."""
        calls = [(each["arguments"], each["body"]) for each in self.calls if each["body"] is not None]
        return [(words[words.index("--method") + 1], words[-1], body) for words, body in calls]

    def comments(self, on: int = 7) -> list[str]:
        """Bodies of the comments on a pull request."""
        return [each["body"] for each in self["comments"] if each["pull"] == on]
