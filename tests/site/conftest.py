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

from benchmarks.history import overview, site_scripts
from benchmarks.repository import ROOT, git

from ..asv_results import benchmark, machine_of, results

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIME, RATIO, LIMIT = overview.TIMES["inference"], overview.RATIO, overview.LIMIT
COUNTS = "inference.InferenceCounts"
EAGER = (0.25,) * 8
COMPILED = (0.20, 0.20, 0.20, 0.20, 0.16, 0.16, 0.16, 0.16)
WORSE = (0.8, 0.8, 0.8, 0.8, 1.0, 1.0, 1.0, 1.0)  # of the second machine: a step that asv finds


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
    place = tmp_path_factory.mktemp("site") / "html"
    shutil.copytree(published, place)
    assert site_scripts.put_beside(place, place.parent / "kept") is None
    assert not re.search(r'(?:src|href)="https://[^"]+\.(?:js|css)"', (place / "index.html").read_text())
    return place


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
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no network
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
