"""Are the sdist and the wheel what a release should be: ``nox -s package -- [--tag TAG]``.

They hold the package, its licence and its description, nothing of the ruler and nothing else; their version
is the tag's. Exit codes (through nox 0 or 1): 0 yes, 1 no, 2 there is no sdist and wheel to look at.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..command import exit_code, say
from ..repository import PACKAGE, MeasurementError

NAME = Path(PACKAGE).name
IN_SDIST = {"LICENSE", "README.md", "PKG-INFO", "pyproject.toml", ".gitignore"}  # beside src/
IN_METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
NEEDED = {f"{NAME}/__init__.py", f"{NAME}/py.typed"}


def find(directory: Path) -> tuple[Path, Path]:
    """The sdist and the wheel.

    Raises:
        MeasurementError: there is not one of each.
    """
    sdists, wheels = sorted(directory.glob("*.tar.gz")), sorted(directory.glob("*.whl"))
    if len(sdists) != 1 or len(wheels) != 1:
        raise MeasurementError(
            f"{directory} holds {len(sdists)} sdists and {len(wheels)} wheels; there must be one of each"
        )
    return sdists[0], wheels[0]


def problems(sdist: Path, wheel: Path, tag: str | None) -> list[str]:
    """What is wrong with them, a line each.

    Args:
        tag: ``v`` and the version that they must have; None: any, but both the same.
    """
    version = sdist.name.removeprefix(f"{NAME}-").removesuffix(".tar.gz")
    found = []
    if wheel.name != f"{NAME}-{version}-py3-none-any.whl":
        found.append(f"{wheel.name} is not the wheel of {sdist.name}")
    if tag is not None and tag != f"v{version}":
        found.append(f"{sdist.name} is not the version of tag {tag}; set the version in pyproject.toml")
    return [*found, *_of_sdist(sdist), *_of_wheel(wheel)]


def _of_sdist(sdist: Path) -> list[str]:
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.removeprefix(f"{top}/") for member in archive if not member.isdir()}
        strange = [member.name for member in archive if not (member.isfile() or member.isdir())]
    others = {name for name in members - IN_SDIST if not name.startswith(f"{PACKAGE}/")}
    return _told(
        sdist, {f"src/{name}" for name in NEEDED} | IN_SDIST - {".gitignore"}, members, others, strange
    )


def _of_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name.partition(".dist-info/")[2] for name in members if ".dist-info/" in name}
    others = {name for name in members if ".dist-info/" not in name and not name.startswith(f"{NAME}/")}
    others |= metadata - IN_METADATA
    return _told(wheel, NEEDED | {"licenses/LICENSE"}, members | metadata, others, [])


def _told(
    file: Path, needed: set[str], members: set[str], others: set[str], strange: Sequence[str]
) -> list[str]:
    cached = {name for name in members if re.search(r"__pycache__|\.pyc$", name)}
    return [
        *(f"{file.name} lacks {name}" for name in sorted(needed - members)),
        *(f"{file.name} holds {name}" for name in sorted(others | cached | set(strange))),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s package --", description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tag", help="of the release, such as v1.2.0")
    args = parser.parse_args(argv)
    return exit_code("package", lambda: _run(args.directory, args.tag))


def _run(directory: Path, tag: str | None) -> int:
    sdist, wheel = find(directory)
    found = problems(sdist, wheel, tag)
    say("\n".join(found) or f"{sdist.name} and {wheel.name} are whole")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
