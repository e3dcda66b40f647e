"""The gate: did this change make ACT slower? A verdict on two commits, with its own error rates measured."""
