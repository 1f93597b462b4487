"""Tests of the project; `support` has what they share."""
