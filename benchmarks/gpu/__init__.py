"""One command for a GPU that is at hand for minutes: ``python -m benchmarks.gpu``."""
