"""Releases that are supported, and the one line that says so of any other."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lerobot_policy_act_compiled import releases

pytestmark = pytest.mark.compat

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = sorted((ROOT / "tests" / "constraints").glob("*.txt"))
ENVIRONMENT = re.compile(r"py(3\.\d+)-lerobot([\d.]+)-torch([\d.]+)")


def missing(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("package", "installed", "said"),
    [("lerobot", "0.3.3", "0.3.3"), ("torch", "2.5.1", "2.5.1"), ("lerobot", None, ""), ("torch", None, "")],
)
def test_a_missing_or_old_release_is_one_line(
    monkeypatch: pytest.MonkeyPatch, package: str, installed: str | None, said: str
) -> None:
    def version(name: str) -> str:
        if name == package:
            return missing(name) if installed is None else installed
        return "99.0"

    monkeypatch.setattr(releases, "version", version)
    with pytest.raises(
        ImportError, match=f"needs {package}" if installed is None else f"not {said}"
    ) as raised:
        releases.check_installed()
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(f"pip install '{package}>={releases.OLDEST[package]}'")


def test_the_oldest_and_newer_releases_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for versions in (releases.OLDEST, {"lerobot": "1.0.0", "torch": "3.0.0+cpu"}):
        monkeypatch.setattr(releases, "version", versions.__getitem__)
        releases.check_installed()


def test_a_lerobot_without_act_where_it_was_is_one_line() -> None:
    # A process of its own: in this one the module is imported.
    code = (
        "import sys\n"
        "sys.modules['lerobot.policies.act.modeling_act'] = None\n"  # import then says it is not there
        "import lerobot_policy_act_compiled"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    installed = importlib.metadata.version("lerobot")
    assert last.startswith(f"ImportError: lerobot {installed} is not supported by this")
    assert last.endswith(f"it was tried with {releases.TRIED}")


def test_another_packages_error_stays_what_it_is() -> None:
    error = ModuleNotFoundError("No module named 'einops'", name="einops")
    assert releases.moved(error) is error


def test_what_is_said_to_be_tried_is_what_compat_runs() -> None:
    found = [ENVIRONMENT.fullmatch(path.stem) for path in CONSTRAINTS]
    environments = [match.groups() for match in found if match]
    assert len(environments) == len(CONSTRAINTS) > 0
    assert all(lerobot in releases.TRIED for _, lerobot, _ in environments)
    minors = sorted((int(torch.split(".")[1]), torch.rpartition(".")[0]) for _, _, torch in environments)
    assert releases.TRIED.endswith(f"torch {minors[0][1]} to {minors[-1][1]}")


def test_sessions_and_constraints_are_the_same_environments() -> None:
    command = [sys.executable, "-m", "nox", "-l"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"compat\((\S+)\)", listed)) == {path.stem for path in CONSTRAINTS}


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.stem)
def test_constraints_pin_everything_and_name_no_host(path: Path) -> None:
    match = ENVIRONMENT.fullmatch(path.stem)
    assert match
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line) for line in lines)
    assert {f"lerobot=={match[2]}", f"torch=={match[3]}"} <= set(lines)
