"""GitHub as its documentation describes it: which jobs an event starts, where a download puts artifacts.

Events and their default types: https://docs.github.com/en/actions/reference/events-that-trigger-workflows
Expressions: https://docs.github.com/en/actions/reference/evaluate-expressions-in-workflows-and-actions
Downloads: ``src/download-artifact.ts`` of actions/download-artifact at the commit that the workflows pin.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TYPES = {"pull_request": ("opened", "synchronize", "reopened")}  # where a workflow names none
WORD = re.compile(r"\s*('(?:[^']|'')*'|&&|\|\||==|!=|[!(),]|[\w.*-]+)")
STATUS_CHECKS = re.compile(r"\b(always|cancelled|failure|success)\(\)")


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)  # YAML 1.1 reads the key `on` as a boolean
    if isinstance(found["on"], str):
        found["on"] = {found["on"]: None}
    return dict(found)


WORKFLOWS = {path.stem: read(path) for path in FILES}


@dataclass
class Run:
    """A workflow run as its expressions see it.

    Attributes:
        event: name of the event; ``payload`` is what GitHub sends with it.
        results: of the jobs that have ended, for ``needs``.
        of_the_job: the contexts that each job has its own of: ``runner``, ``matrix``, ``strategy``.
    """

    event: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    ref: str = "refs/heads/main"
    sha: str = "a" * 40
    attempt: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    cancelled: bool = False
    of_the_job: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> dict[str, Any]:
        github = {
            "event_name": self.event,
            "event": self.payload,
            "ref": self.ref,
            "sha": self.sha,
            "run_attempt": self.attempt,
            "token": "of the job",
        }
        needs = {name: {"result": result} for name, result in self.results.items()}
        return {
            "github": github,
            "inputs": self.payload.get("inputs") or {},
            "vars": self.variables,
            "needs": needs,
            **self.of_the_job,
        }

    def value(self, expression: str) -> Any:
        return _Expression(expression, self).value

    def text(self, text: Any) -> str:
        """A text with its ``${{ }}`` filled in."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: _as_text(self.value(found[1])), str(text))

    def starts(self, workflow: Mapping[str, Any]) -> bool:
        """Whether the event starts the workflow."""
        if self.event not in workflow["on"]:
            return False
        wanted = workflow["on"][self.event] or {}
        if self.event == "schedule":
            return True
        if self.event == "push":
            return self._pushed_to(wanted)
        types = wanted.get("types", TYPES.get(self.event))
        return types is None or self.payload.get("action") in types

    def _pushed_to(self, wanted: Mapping[str, Any]) -> bool:
        """Whether the filters take the ref. Where only branches have one, no tag starts anything."""
        if not {"branches", "tags"} & set(wanted):
            return True
        kind, _, name = self.ref.removeprefix("refs/").partition("/")
        patterns = wanted.get({"heads": "branches", "tags": "tags"}[kind], ())
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    def job_runs(self, job: Mapping[str, Any]) -> bool:
        """Whether the job runs; where not it is skipped, which GitHub shows as a success."""
        needs = job.get("needs", [])
        all_well = all(
            self.results[name] == "success" for name in ([needs] if isinstance(needs, str) else needs)
        )
        condition = str(job.get("if", "success()"))
        if not STATUS_CHECKS.search(condition) and not all_well:
            return False
        return bool(self.value(re.sub(r"^\$\{\{|\}\}$", "", condition)))

    def jobs(self) -> dict[str, list[str]]:
        """Workflows that the event starts, and their jobs that run at once; ``needs`` are not waited for."""
        return {
            name: [
                job
                for job, content in workflow["jobs"].items()
                if not content.get("needs") and self.job_runs(content)
            ]
            for name, workflow in WORKFLOWS.items()
            if self.starts(workflow)
        }

    def group(self, workflow: str) -> str:
        """The concurrency group of a run; GitHub cancels within one only."""
        return self.text(WORKFLOWS[workflow]["concurrency"]["group"])

    def environment(self, *levels: Mapping[str, Any]) -> dict[str, str]:
        """Variables of a step; ``levels`` are the workflow, the job and the step."""
        given = {name: self.text(value) for each in levels for name, value in each.get("env", {}).items()}
        return {**os.environ, "RUNNER_TEMP": self.of_the_job.get("runner", {}).get("temp", ""), **given}

    def arguments(self, *levels: Mapping[str, Any]) -> list[str]:
        """What the step's command gives to its nox session, as the shell makes it."""
        script = re.sub(r"^(uvx|\.locked/bin/nox) ", r"printf '%s\\0' ", levels[-1]["run"])
        environment = self.environment(*levels)
        said = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, check=True)
        words = said.stdout.decode().split("\0")[:-1]
        return words[words.index("--") + 1 :]

    def download(self, step: Mapping[str, Any], artifacts: Path, workspace: Path) -> bool:
        """What a step with download-artifact does; False where the step fails.

        Args:
            artifacts: holds a folder for each artifact of the run.
        """
        asked = {name: self.text(value) for name, value in step["with"].items()}
        path = workspace / asked["path"]
        if "name" in asked:
            found = [artifacts / asked["name"]]
            if not found[0].is_dir():
                return False
        else:
            found = [
                each for each in sorted(artifacts.iterdir()) if fnmatch.fnmatch(each.name, asked["pattern"])
            ]
        for artifact in found:
            flat = "name" in asked or asked.get("merge-multiple") == "true" or len(found) == 1
            shutil.copytree(artifact, path if flat else path / artifact.name, dirs_exist_ok=True)
        return True


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Expression:
    """One expression of GitHub's, evaluated as it is read; an unknown property is null."""

    def __init__(self, text: str, run: Run) -> None:
        self.run, self.context, self.words = run, run.context, self._words(text)
        self.next = next(self.words, "")
        self.value = self._or()
        if self.next:
            raise ValueError(f"{self.next!r} is left over in {text!r}")

    @staticmethod
    def _words(text: str) -> Iterator[str]:
        at, text = 0, text.strip()
        while at < len(text):
            found = WORD.match(text, at)
            if found is None:
                raise ValueError(f"{text[at:]!r} is no expression")
            yield found[1]
            at = found.end()

    def _take(self) -> str:
        word, self.next = self.next, next(self.words, "")
        return word

    def _or(self) -> Any:
        value = self._and()
        while self.next == "||":
            self._take()
            other = self._and()
            value = value or other
        return value

    def _and(self) -> Any:
        value = self._equal()
        while self.next == "&&":
            self._take()
            other = self._equal()
            value = value and other
        return value

    def _equal(self) -> Any:
        value = self._operand()
        while self.next in ("==", "!="):
            equal = self._take() == "=="
            value = (_as_text(value).lower() == _as_text(self._operand()).lower()) == equal
        return value

    def _operand(self) -> Any:
        word = self._take()
        if word == "!":
            return not self._operand()
        if word == "(":
            inner = self._or()
            assert self._take() == ")"
            return inner
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if word in ("true", "false", "null") or word.isdigit():
            return json.loads(word)
        if self.next == "(":
            return self._call(word)
        value: Any = self.context
        for name in word.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def _call(self, name: str) -> Any:
        arguments: list[Any] = []
        self._take()
        while self.next != ")":
            arguments.append(self._or())
            if self.next == ",":
                self._take()
        self._take()
        if name == "fromJSON":
            return json.loads(arguments[0])
        if name == "contains":
            return arguments[1] in (arguments[0] or ())
        results = self.run.results.values()
        return {
            "always": True,
            "cancelled": self.run.cancelled,
            "success": not self.run.cancelled and all(result == "success" for result in results),
            "failure": "failure" in results,
        }[name]
