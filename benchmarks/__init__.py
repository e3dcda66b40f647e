"""The ruler: what is measured, how it is counted, and the asv suite that keeps the history."""
