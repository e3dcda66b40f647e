"""What torch 2.6, the oldest that is supported, cannot do: marks for tests that ask for it."""

from __future__ import annotations

import pytest
import torch
from packaging.version import Version

OLDEST = Version(torch.__version__) < Version("2.7")

traces_no_subclass = pytest.mark.skipif(
    OLDEST, reason="torch 2.6 traces no operator of a parameter whose class is a plain subclass"
)
