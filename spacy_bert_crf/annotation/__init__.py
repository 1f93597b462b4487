"""TODO room annotation."""
