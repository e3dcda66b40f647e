"""``python -m pytest -m gpu`` on a machine that is lent for minutes: it has few packages."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.gpu.tested import files
from benchmarks.repository import ROOT

MISSING = ("nox", "uv", "hypothesis", "jsonschema", "peft", "onnxruntime", "onnx", "onnxscript")
COLLECT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in sys.argv[1].split(",")
        return None if missing else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-m", "gpu", "--collect-only"]))
"""


def test_tests_for_a_gpu_are_found_without_what_other_tests_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, ",".join(MISSING)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} == set(files(ROOT))
