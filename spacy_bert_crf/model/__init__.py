"""TODO room model."""
