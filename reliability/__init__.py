"""Faults, hostile input and interrupted work, and how often something went wrong. See README.md."""
