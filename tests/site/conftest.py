"""A small history of two machines, published by asv and by us, and a browser to look at it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import overview
from benchmarks.repository import ROOT, git

from ..asv_results import benchmark, machine_of, results

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIME, RATIO, LIMIT = overview.TIMES["inference"], overview.RATIO, overview.LIMIT
COUNTS = "inference.InferenceCounts"
EAGER = (0.25,) * 8
COMPILED = (0.20, 0.20, 0.20, 0.20, 0.16, 0.16, 0.16, 0.16)
WORSE = (0.8, 0.8, 0.8, 0.8, 1.0, 1.0, 1.0, 1.0)  # of the second machine: a step that asv finds
# asv's pages name these on hosts that a test must not need; npm has the same files.
SCRIPTS = {
    "bootstrap@3.1.1": ("dist/css/bootstrap.min.css", "dist/js/bootstrap.min.js"),
    "flot-orderbars@1.0.0": ("js/jquery.flot.orderBars.js",),
    "blueimp-md5@2.19.0": ("js/md5.min.js",),
    "flot@0.8.3": (
        "jquery.flot.js",
        "jquery.flot.categories.js",
        "jquery.flot.selection.js",
        "jquery.flot.time.js",
    ),
    "stupid-table-plugin@1.1.3": ("stupidtable.min.js",),
    "jquery@3.3.1": ("dist/jquery.min.js",),
}


BENCHMARKS = {
    TIME: benchmark(
        TIME,
        "seconds",
        {"workload": ["aloha"], "precision": ["fp32"], "device": ["cpu"], "variant": ["eager", "compiled"]},
    ),
    **{
        f"{COUNTS}.{name}": benchmark(f"{COUNTS}.{name}", "ratio", {"workload": ["aloha"], "device": ["cpu"]})
        for name in (RATIO, LIMIT)
    },
}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``html`` of eight commits on two machines, the second of which became slower in the fifth."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "asv.conf.json", root)
    git("init", "-q", "-b", "main", root=root)
    git("add", "-A", root=root)
    home = root / ".asv"
    for name in ("vm-one", "vm-two"):
        place = home / "results" / name
        place.mkdir(parents=True)
        (place / "machine.json").write_text(json.dumps({**machine_of(name), "version": 1}))
    (home / "results" / "benchmarks.json").write_text(json.dumps({**BENCHMARKS, "version": 2}))
    for number, (eager, compiled, worse) in enumerate(zip(EAGER, COMPILED, WORSE, strict=True)):
        when = 1_790_000_000 + 86_400 * number
        environment = {"GIT_AUTHOR_DATE": f"{when} +0000", "GIT_COMMITTER_DATE": f"{when} +0000"}
        git("commit", "-q", "--allow-empty", "-m", f"change {number}", root=root, env=environment)
        commit = git("rev-parse", "HEAD", root=root)
        for name, factor in (("vm-one", 1.0), ("vm-two", worse / compiled * 0.25)):
            values = {
                TIME: [eager, compiled * factor],
                f"{COUNTS}.{RATIO}": [compiled * factor / eager],
                f"{COUNTS}.{LIMIT}": [0.6],
            }
            file = home / "results" / name / f"{commit[:8]}-virtualenv-py3.12.json"
            file.write_text(json.dumps(results(commit, when, name, values, BENCHMARKS)))
    command = [sys.executable, "-m", "asv", "publish"]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "HOME": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    overview.write(home, home / "html")
    return home / "html"


@pytest.fixture(scope="session")
def with_scripts(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``published`` that holds the scripts which asv's pages load from elsewhere."""
    place, packages = tmp_path_factory.mktemp("site") / "html", tmp_path_factory.mktemp("npm")
    shutil.copytree(published, place)
    (packages / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *SCRIPTS]
    subprocess.run(command, cwd=packages, check=True, capture_output=True)
    local = {}
    for package, files in SCRIPTS.items():
        for file in files:
            shutil.copy(packages / "node_modules" / package.partition("@")[0] / file, place)
            local[_plain(file)] = Path(file).name
    page = (place / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="(https://[^"]+\.(?:js|css))"', page)
    assert {_plain(each) for each in named} == set(local), "asv's pages load something else"
    for each in named:
        page = page.replace(each, local[_plain(each)])
    page = re.sub(r'integrity="[^"]*"', "", page)  # of the minified file; npm's flot is not minified
    (place / "index.html").write_text(page, encoding="utf-8")
    return place


def _plain(address: str) -> str:
    """A script's file name without version and ``.min``."""
    return re.sub(r"(-[\d.]+)?(\.min)?\.(js|css)$", r".\3", address.rpartition("/")[2])


@pytest.fixture(scope="session")
def address(with_scripts: Path) -> Iterator[str]:
    """Of a server on this machine: asv's pages load JSON, which browsers refuse from files."""
    handler = functools.partial(_Quiet, directory=str(with_scripts))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the browser has seen enough
            super().handle()


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function of an address: the page as the browser has it when its scripts have run."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        pytest.fail(f"no browser: install one of {', '.join(BROWSERS)}")
    pictures = Path(os.environ.get("SITE_SCREENSHOTS") or tmp_path_factory.mktemp("pictures")).resolve()
    pictures.mkdir(exist_ok=True, parents=True)
    counter = itertools.count()

    def looked(address: str, picture: str, *, width: int = 1000, dark: bool = False) -> str:
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={tmp_path_factory.mktemp(f'browser{next(counter)}')}",
            *("--virtual-time-budget=8000", f"--window-size={width},1400"),
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        shot = pictures / f"{picture}.png"
        subprocess.run(
            [program, *options, f"--screenshot={shot}", address], check=True, capture_output=True, timeout=120
        )
        assert shot.stat().st_size > 10_000, "an empty page"
        done = subprocess.run(
            [program, *options, "--dump-dom", address], check=True, capture_output=True, timeout=120
        )
        return done.stdout.decode()

    return looked
