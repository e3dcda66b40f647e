"""What asv imports, and all that measures with torch; imports nothing of the rest of the ruler."""
