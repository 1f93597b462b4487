"""Losses of a CRF beside its likelihood: what a student learns from a teacher."""
