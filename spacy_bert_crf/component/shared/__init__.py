"""The component whose encoder several components share."""
