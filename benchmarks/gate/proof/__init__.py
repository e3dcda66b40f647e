"""How often the gate is wrong, measured; nothing of the gate imports this."""
