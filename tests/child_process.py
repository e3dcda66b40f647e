"""What a test's own Python processes share."""

# Without it Python looks for garbage among all objects of torch and LeRobot at its end, for 1.3 s.
ENDS_AT_ONCE = """
import atexit, gc
atexit.register(gc.freeze)
"""
