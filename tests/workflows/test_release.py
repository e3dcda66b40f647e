"""Who may publish, whose review a change needs, and that a commit is checked by the commands that CI runs."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from .github_actions import FILES, ROOT, WORKFLOWS, read

PUBLISHES = ("release", "publish")


def test_only_a_tag_publishes_and_only_after_a_review() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    job = workflow["jobs"]["publish"]
    assert job["environment"] == "pypi"
    assert job["needs"] == "package"
    assert "if" not in job, "it would run although the files were not checked"


def test_only_the_jobs_that_publish_can_prove_who_they_are() -> None:
    proves = {
        (path.stem, name)
        for path in FILES
        for name, job in read(path)["jobs"].items()
        if job.get("permissions", {}).get("id-token", "none") != "none"
    }
    assert proves == {PUBLISHES, ("scorecard", "scorecard")}


def test_scorecard_keeps_to_what_openssf_takes_results_from() -> None:
    """Its rules: https://github.com/ossf/scorecard-action/blob/v2.4.4/README.md#workflow-restrictions."""
    workflow = WORKFLOWS["scorecard"]
    assert set(workflow["on"]) == {"schedule"}, "the default branch only"
    assert not {"env", "defaults"} & set(workflow)
    (job,) = workflow["jobs"].values()
    assert set(job) == {"name", "runs-on", "timeout-minutes", "permissions", "steps"}
    assert [set(step) - {"uses", "with"} for step in job["steps"]] == [set(), set(), set()]
    used = [step["uses"].partition("@")[0] for step in job["steps"]]
    assert used == ["actions/checkout", "ossf/scorecard-action", "actions/upload-artifact"]
    assert job["steps"][1]["with"]["publish_results"] is True


def test_what_is_published_is_what_was_checked() -> None:
    """The job that publishes builds nothing: its files are those of the job before it, by their one name."""
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    (uploaded,) = [step["with"] for step in jobs["package"]["steps"] if "upload-artifact" in str(step)]
    (downloaded,) = [step["with"] for step in jobs["publish"]["steps"] if "download-artifact" in str(step)]
    assert uploaded["if-no-files-found"] == "error"
    assert downloaded == {"name": uploaded["name"], "path": "dist"}
    assert uploaded["path"].split() == ["dist/*.tar.gz", "dist/*.whl"]


def test_every_pull_request_rehearses_a_release() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert jobs["package"]["name"] == "nox -s package"
    assert "package" in jobs["all"]["needs"]


@pytest.mark.parametrize("path", ["/benchmarks/", "/.github/", "/noxfile.py", "/pyproject.toml"])
def test_the_ruler_has_owners(path: str) -> None:
    """As comments, until this repository knows whom to name; a name that GitHub does not know is no owner."""
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if re.match(rf"(# )?{re.escape(path)} @", line)]
    assert (ROOT / path.strip("/")).exists()
    assert line.startswith("# ") == ("@OWNER/" in line)


def test_the_guide_names_what_has_owners() -> None:
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    section = guide.partition("## Who must review what")[2].partition("\n## ")[0]
    owned = re.findall(r"^(?:# )?/(\S+) @", lines, re.MULTILINE)
    assert len(owned) > 3
    assert [path for path in owned if f"`{path}`" not in section] == []


def test_a_commit_is_checked_by_the_commands_of_ci() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (repository,) = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local", "a tool of its own version would find other things than CI does"
    in_ci = {
        step.get("run") for path in FILES for job in read(path)["jobs"].values() for step in job["steps"]
    }
    for hook in repository["hooks"]:
        *command, session = shlex.split(hook["entry"])
        assert command == ["nox", "-R", "-s"]
        assert f"uvx nox -s {session}" in in_ci
        assert not hook["pass_filenames"]
    files = {hook["id"]: re.compile(hook["files"]) for hook in repository["hooks"]}
    configured = [str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.y*ml")]
    assert ".github/actionlint.yaml" in configured
    assert [path for path in configured if not files["workflows"].search(path)] == []


def test_dependabot_looks_at_actions_and_packages() -> None:
    text = (ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8")
    assert {update["package-ecosystem"] for update in yaml.safe_load(text)["updates"]} == {
        "github-actions",
        "pip",
    }
