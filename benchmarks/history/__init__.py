"""asv over commits: measured, published, watched."""
