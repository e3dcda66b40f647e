"""asv's pages get their scripts from npm once, or go on without and say why; nox -s site asks npm itself."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from benchmarks.history import site_scripts

PAGE = """<script src="https://a.example/jquery-3.3.1.min.js" integrity="sha256-x"></script>
<script src="asv.js"></script>"""
NPM = """#!/bin/sh
[ "$1" = pack ] || exit 2
echo "$6 $7" >> "{directory}/calls"
for each in "$6" ${{7:+"$7"}}; do
    cp "{directory}/$(echo "$each" | tr @ -).tgz" "$5" || exit 1
done
"""


@pytest.fixture
def html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of asv's, and an npm that has two packages and counts its calls."""
    packages = {}
    for package, file in (("jquery@3.3.1", "dist/jquery.min.js"), ("flot@0.8.3", "flot.css")):
        archive = tmp_path / f"{package.replace('@', '-')}.tgz"
        with tarfile.open(archive, "w:gz") as packed:
            member = tarfile.TarInfo(f"package/{file}")
            member.size = 4
            packed.addfile(member, io.BytesIO(b"code"))
        sha512 = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        packages[package] = (sha512, (file,))
    monkeypatch.setattr(site_scripts, "PACKAGES", packages)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text(NPM.format(directory=tmp_path))
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text(PAGE)
    return tmp_path / "html"


def test_scripts_lie_beside_the_page_and_are_fetched_once(
    html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        (html / "index.html").write_text(PAGE)
        assert site_scripts.put_beside(html, tmp_path / "kept") is None
        text = (html / "index.html").read_text()
        assert text == PAGE.replace("https://a.example/jquery-3.3.1.min.js", "scripts/jquery.min.js").replace(
            ' integrity="sha256-x"', ""
        )
        for name in ("jquery.min.js", "flot.css"):
            assert (html / "scripts" / name).read_bytes() == b"code"
        monkeypatch.setenv("PATH", "")
    assert (tmp_path / "calls").read_text() == "jquery@3.3.1 flot@0.8.3\n"


def test_only_what_is_missing_is_fetched(html: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "jquery@3.3.1").mkdir(parents=True)
    (kept / "jquery@3.3.1" / "jquery.min.js").write_bytes(b"kept")
    assert site_scripts.put_beside(html, kept) is None
    assert (html / "scripts" / "jquery.min.js").read_bytes() == b"kept"
    assert (tmp_path / "calls").read_text() == "flot@0.8.3 \n"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("no npm", "npm is not installed"),
        ("no network", "npm could not fetch jquery@3.3.1, flot@0.8.3"),
        ("another archive", "npm's jquery@3.3.1 has another hash"),
        ("another page", "https://a.example/other.js is not known"),
    ],
)
def test_without_them_the_page_stays_as_it_is(
    html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, why: str
) -> None:
    if broken == "no npm":
        monkeypatch.setenv("PATH", "")
    if broken == "no network":
        (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 1\n")
    if broken == "another archive":
        (tmp_path / "jquery-3.3.1.tgz").write_bytes(b"other")
    if broken == "another page":
        (html / "index.html").write_text(PAGE.replace("jquery-3.3.1.min", "other"))
    before = (html / "index.html").read_text()
    told = site_scripts.put_beside(html, tmp_path / "kept")
    assert told is not None
    assert told.startswith("asv's pages load their scripts from the network: ")
    assert why in told
    assert (html / "index.html").read_text() == before
    assert not (html / "scripts").exists()
