"""A release holds the package and nothing else, and has the version of its tag."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.releases import distributions

NAME, VERSION = distributions.NAME, "1.2.0"
SDIST = {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", ".gitignore"} | {
    f"src/{NAME}/{file}" for file in ("__init__.py", "py.typed", "patch.py")
}
METADATA = f"{NAME}-{VERSION}.dist-info"
WHEEL = {f"{METADATA}/{file}" for file in distributions.IN_METADATA} | {
    f"{NAME}/{file}" for file in ("__init__.py", "py.typed", "patch.py")
}


def write(
    directory: Path,
    sdist: set[str] = SDIST,
    wheel: set[str] = WHEEL,
    version: str = VERSION,
    links: Mapping[str, str] | None = None,
) -> None:
    top = f"{NAME}-{VERSION}"
    with tarfile.open(directory / f"{top}.tar.gz", "w:gz") as archive:
        for name in sorted(sdist):
            archive.addfile(tarfile.TarInfo(f"{top}/{name}"), io.BytesIO())
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(f"{top}/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    with zipfile.ZipFile(directory / f"{NAME}-{version}-py3-none-any.whl", "w") as packed:
        for name in sorted(wheel):
            packed.writestr(name, "")


def test_a_whole_release_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    for arguments in ([], ["--tag", "v1.2.0"]):
        assert distributions.main([str(tmp_path), *arguments]) == 0
    assert "are whole" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sdist", "wheel", "said"),
    [
        (SDIST - {"LICENSE"}, WHEEL, f"{NAME}-1.2.0.tar.gz lacks LICENSE"),
        (SDIST - {f"src/{NAME}/py.typed"}, WHEEL, f"{NAME}-1.2.0.tar.gz lacks src/{NAME}/py.typed"),
        (SDIST | {"benchmarks/github.py"}, WHEEL, f"{NAME}-1.2.0.tar.gz holds benchmarks/github.py"),
        (SDIST | {"src/other/__init__.py"}, WHEEL, f"{NAME}-1.2.0.tar.gz holds src/other/__init__.py"),
        (SDIST, WHEEL - {f"{NAME}/__init__.py"}, f"-any.whl lacks {NAME}/__init__.py"),
        (SDIST, WHEEL - {f"{METADATA}/licenses/LICENSE"}, "-any.whl lacks licenses/LICENSE"),
        (SDIST, WHEEL | {"tests/conftest.py"}, "-any.whl holds tests/conftest.py"),
        (SDIST, WHEEL | {f"{METADATA}/direct_url.json"}, "-any.whl holds direct_url.json"),
        (SDIST, WHEEL | {f"{NAME}/__pycache__/patch.cpython-312.pyc"}, "-any.whl holds "),
    ],
)
def test_what_lacks_and_what_is_too_much_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sdist: set[str], wheel: set[str], said: str
) -> None:
    write(tmp_path, sdist, wheel)
    assert distributions.main([str(tmp_path)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert said in line


def test_a_link_is_no_part_of_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, links={f"src/{NAME}/secrets.py": "/etc/passwd"})
    assert distributions.main([str(tmp_path)]) == 1
    assert "secrets.py" in capsys.readouterr().out


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.3.0", ""])
def test_the_version_is_the_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str], tag: str) -> None:
    write(tmp_path)
    assert distributions.main([str(tmp_path), "--tag", tag]) == 1
    assert "is not the version of tag" in capsys.readouterr().out


def test_both_have_one_version(tmp_path: Path) -> None:
    write(tmp_path, version="1.1.0")
    assert distributions.main([str(tmp_path)]) == 1


def test_nothing_built_is_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distributions.main([str(tmp_path)]) == 2
    assert "holds 0 sdists and 0 wheels" in capsys.readouterr().err
