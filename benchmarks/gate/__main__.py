"""``python -m benchmarks.gate``: did head make ACT slower than base? Exit 0 no, 1 yes, 2 unknown, 3 open."""

import sys

if __name__ == "__main__":
    try:
        from .run import main
    except Exception as error:  # Python's own exit code for it is 1: a regression
        print(f"gate: could not measure: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main())
