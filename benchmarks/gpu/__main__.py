"""``python -m benchmarks.gpu``: exit 0 all that was asked was measured, 1 a check failed, 2 not measured."""

import sys

if __name__ == "__main__":
    from .run import main

    sys.exit(main())
