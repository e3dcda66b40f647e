"""The documents: links resolve, Python in them runs, and the paths, sessions and options they name exist."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import unpatch_lerobot

pytestmark = pytest.mark.usefixtures("without_inductor")

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

FILES = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
PATHS = {path for file in FILES for path in (file, *map(str, Path(file).parents)) if (ROOT / path).exists()}
# In backticks: whatever has a slash, and names of files. A name alone may stand in any folder.
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w.-]+\.(?:jinja|jsonl?|md|py|svg|toml|txt|ya?ml))`")
FOLDERS = ("", "benchmarks", "src/lerobot_policy_act_compiled")  # a page's paths start at one of these
WRITTEN = (".asv/", ".gate/", "ratios.md", "report.json", "report.md", "report.svg")  # by the ruler
# In code and its comments: what starts with a folder of this repository.
MENTIONED = re.compile(r"(?<![\w./-])(?:\.github|benchmarks|docs|examples|src|tests)/[\w./*-]*[\w*]")
OF_LEROBOT = {"tests/policies", "tests/processor"}


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{page.name}-{at}")
        for page in PAGES
        for at, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_there_are_pages_to_check() -> None:
    assert {"README.md", "MIGRATION_GUIDE.md", "TORCH_COMPILE_ACT.md", "CONTRIBUTING.md"} <= {
        p.name for p in PAGES
    }
    assert len(blocks("python")) > 4
    assert len(blocks("bash")) > 8


def test_the_guide_states_the_tolerances_of_the_end_to_end_tests() -> None:
    # Read and not imported: those tests import what only their own session installs.
    tests = (ROOT / "tests/end_to_end/test_lerobot.py").read_text(encoding="utf-8")
    guide = (ROOT / "MIGRATION_GUIDE.md").read_text(encoding="utf-8")
    loss, action = re.findall(r"^(?:LOSS|ACTION) = (\S+)", tests, re.MULTILINE)
    assert f"(within {loss} of them" in guide
    assert f"within {action} rad" in guide


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if link.startswith("https://"):
            continue
        name, _, place = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if place:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in {anchor(heading) for heading in headings}, link


def exists(path: str) -> bool:
    anywhere = {Path(each).name for each in PATHS} if "/" not in path else set()
    return path in anywhere or any(str(Path(folder, path)) in PATHS for folder in FOLDERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    named = PATH.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    assert [path for path in named if not path.startswith(WRITTEN) and not exists(path)] == []


def test_paths_in_code_and_its_comments_exist() -> None:
    """Of the tests only docstrings and comments would count: their code has paths of made-up repositories."""
    sources = [file for file in FILES if file.endswith((".py", ".yml", ".jinja", ".toml", "/run"))]
    named = {
        (file, path)
        for file in sources
        if not file.startswith("tests/") and (ROOT / file).exists()
        for path in MENTIONED.findall((ROOT / file).read_text(encoding="utf-8"))
        if "*" not in path and path not in OF_LEROBOT
    }
    assert len(named) > 10
    assert {(file, path) for file, path in named if path not in PATHS} == set()


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(
    code: str,
    tiny_policy: Callable[..., Any],
    tiny_batch: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    """With a policy and a batch, as the text around it has them."""
    monkeypatch.chdir(tmp_path)
    batch = tiny_batch(1)
    names = {"torch": torch, "policy": tiny_policy(dropout=0.0), "batch": batch, "observation": batch}
    try:
        exec(compile(code, "<a code block>", "exec"), names)  # noqa: S102
    finally:
        unpatch_lerobot()


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "-l"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^[-*] (([\w-]+)\S*)", listed, re.MULTILINE)
    return {name for session in names for name in session}  # "compat" and "compat(...)"


@pytest.mark.parametrize("code", blocks("bash"))
def test_commands_exist(code: str, sessions: set[str]) -> None:
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        for at, word in enumerate(words):
            if word == "-s":
                named = itertools.takewhile(lambda each: not each.startswith("-"), words[at + 1 :])
                assert set(named) <= sessions, line


# What each session runs; the others pass on what pytest, asv or nothing takes.
PROGRAMS = {
    "compare": ["examples/benchmark_act_compile.py"],
    "gate": ["-m", "benchmarks.gate"],
    "history": ["-m", "benchmarks.history.measure"],
    **{name: ["-m", "benchmarks.pages", name] for name in ("breakdown", "effects", "limits", "ratios")},
}
OPTIONS = re.compile(r"nox -s (\w+) -- ([^`\n#]*)")


@pytest.mark.parametrize("name", PROGRAMS)
def test_options_exist(name: str) -> None:
    """Of commands in blocks and in sentences, on every page and in the list of sessions."""
    texts = [page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "noxfile.py"]]
    named = {
        word
        for text in texts
        for session, arguments in OPTIONS.findall(text)
        if session == name
        for word in re.findall(r"--[a-z][\w-]*", arguments)
    }
    assert named, f"no page names an option of {name}: does OPTIONS still find them?"
    command = [sys.executable, *PROGRAMS[name], "--help"]
    usage = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"--[a-z][\w-]*", usage))
