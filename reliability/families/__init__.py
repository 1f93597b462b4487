"""Tiny random encoders of all families, and what each command does with them."""
