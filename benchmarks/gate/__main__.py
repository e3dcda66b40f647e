"""``python -m benchmarks.gate``: did head make ACT slower than base? Exit 0 no, 1 yes, 2 unknown, 3 open."""

import sys

from .run import main

if __name__ == "__main__":
    sys.exit(main())
