"""Other releases of LeRobot and torch."""
