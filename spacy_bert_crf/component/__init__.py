"""TODO room component."""
