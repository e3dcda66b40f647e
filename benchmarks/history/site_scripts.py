"""The scripts of asv's pages beside the pages, so that these need no network. No torch.

asv's front page names files on several hosts. npm's packages hold the same files; they are taken from there
once, by version and hash, and no code of theirs runs here.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..files import write_whole

FOLDER = "scripts"  # in the pages, and below .asv what they are copied from
# By package and version: the SHA-512 of npm's archive, and what of it asv's front page loads.
PACKAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "blueimp-md5@2.19.0": (
        "DRQrD6gJyy8FbiE4s+bDoXS9hiW3Vbx5uCdwvcCf3zLHL+Iv7LtGHLpr+GZV8rHG8tK766FGYBwRbu8pELTt+w==",
        ("js/md5.min.js",),
    ),
    "bootstrap@3.1.1": (
        "TAzqS8E/ISpVHP29gYhy+1NSV+FJwApDVQhDfgLYsIuUDJiqJzH2DfORN5tiu+Ie2iBLrzEG34t4Rf465cigqg==",
        ("dist/css/bootstrap.min.css", "dist/js/bootstrap.min.js"),
    ),
    "flot-orderbars@1.0.0": (
        "Jv51fvzevUjNXEeozpwEKfPjhiZhfiJddv0WHjduUTCmSF+7T5K7C9c9Y1wIVmUhDBv5fLMjgbwKecT0GIKPZA==",
        ("js/jquery.flot.orderBars.js",),
    ),
    "flot@0.8.3": (
        "xg2otcTJDvS+ERK+my4wxG/ASq90QURXtoM4LhacCq0jQW2jbyjdttbRNqU2cPykrpMvJ6b2uSp6SAgYAzj9tQ==",
        (
            "jquery.flot.js",
            "jquery.flot.categories.js",
            "jquery.flot.selection.js",
            "jquery.flot.time.js",
        ),
    ),
    "jquery@3.3.1": (
        "Ubldcmxp5np52/ENotGxlLe6aGMvmF4R8S6tZjsP6Knsaxd/xp3Zrh50cG93lR6nPXyUFwzN3ZSOQI0wRJNdGg==",
        ("dist/jquery.min.js",),
    ),
    "stupid-table-plugin@1.1.3": (
        "2Vk7XouQPxUQPRe9w0Fu7ZZ8kHLK7rDoLMsCgtKxRNJ7f4dSOGvW9CkHsq5wD6QsaEnWoyLBYH3xOEsrK3yWBg==",
        ("stupidtable.min.js",),
    ),
}
ADDRESS = re.compile(r'(?:src|href)="(https://[^"]+\.(?:js|css))"')
INTEGRITY = re.compile(r' integrity="[^"]*"')  # of the minified file; flot's on npm is not minified
FROM_NETWORK = "asv's pages load their scripts from the network"
PATIENCE = 120  # s


class NoScriptsError(Exception):
    """Why the pages go on loading their scripts from the network."""


def put_beside(html: Path, kept: Path) -> str | None:
    """Let asv's front page load its scripts from its own folder; else why it does not, in one line.

    Args:
        html: what ``asv publish`` wrote.
        kept: a directory that keeps the scripts for the next time.
    """
    page = html / "index.html"
    if not page.is_file():
        return None
    text = page.read_text(encoding="utf-8")
    try:
        files = _files(kept)
    except NoScriptsError as why:
        return f"{FROM_NETWORK}: {why}"
    of_name = {_plain(name): name for name in files}
    for address in ADDRESS.findall(text):
        if _plain(address) not in of_name:
            return f"{FROM_NETWORK}: {address} is not known to site_scripts.py"
        text = text.replace(address, f"{FOLDER}/{of_name[_plain(address)]}")
    (html / FOLDER).mkdir(exist_ok=True)
    for name, content in files.items():
        write_whole(html / FOLDER / name, content)
    write_whole(page, INTEGRITY.sub("", text))
    return None


def _plain(address: str) -> str:
    """A script's file name without version and ``.min``."""
    return re.sub(r"(-[\d.]+)?(\.min)?\.(js|css)$", r".\3", address.rpartition("/")[2])


def _files(kept: Path) -> dict[str, bytes]:
    """All scripts by their names; what is not kept yet is fetched first."""
    places = {
        package: [kept / package / Path(file).name for file in named]
        for package, (_, named) in PACKAGES.items()
    }
    missing = [package for package, files in places.items() if not all(map(Path.is_file, files))]
    if missing:
        _fetch(missing, kept)
    return {place.name: place.read_bytes() for files in places.values() for place in files}


def _fetch(packages: Sequence[str], kept: Path) -> None:
    """Keep what the page loads of each package: one call of npm, which takes a second for all."""
    with tempfile.TemporaryDirectory(prefix="scripts-") as directory:
        command = ["npm", "pack", "--silent", "--fetch-retries=0", "--pack-destination", directory, *packages]
        try:
            subprocess.run(command, cwd=directory, capture_output=True, check=True, timeout=PATIENCE)
        except FileNotFoundError:
            raise NoScriptsError("npm is not installed") from None
        except (OSError, subprocess.SubprocessError):
            raise NoScriptsError(f"npm could not fetch {', '.join(packages)}") from None
        for package in packages:
            sha512, named = PACKAGES[package]
            archive = Path(directory) / f"{package.replace('@', '-')}.tgz"
            if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != sha512:
                raise NoScriptsError(f"npm's {package} has another hash")
            with tarfile.open(archive) as packed:
                for file in named:
                    write_whole(kept / package / Path(file).name, _content(packed, f"package/{file}"))


def _content(packed: tarfile.TarFile, name: str) -> bytes:
    found = packed.extractfile(name)
    assert found is not None, f"{name} is a folder"
    return found.read()
