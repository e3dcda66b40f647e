"""What torch 2.6, the oldest that is supported, cannot do: marks for tests that ask for it."""

from __future__ import annotations

import pytest
import torch
from packaging.version import Version

OLDEST = Version(torch.__version__) < Version("2.7")

traces_no_subclass = pytest.mark.skipif(
    OLDEST, reason="torch 2.6 traces no operator of a parameter whose class is a plain subclass"
)
compiles_once_more = pytest.mark.xfail(
    OLDEST,
    strict=True,
    reason="torch 2.6 guards the stride of dimensions of one element: a first observation that was made in "
    "inference mode compiles once more after warm_up()",
)
