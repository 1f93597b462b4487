"""TODO room encoder."""
