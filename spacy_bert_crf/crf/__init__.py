"""TODO room crf."""
