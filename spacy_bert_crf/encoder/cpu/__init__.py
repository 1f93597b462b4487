"""TODO room cpu."""
