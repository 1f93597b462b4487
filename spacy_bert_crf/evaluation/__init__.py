"""Evaluation: scores of a pipeline, calibration of its probabilities, and likely errors of gold.

This room may import `component` and what lies below it (`model`, `crf`, `encoder`, `annotation`),
and the modules known to all. It does not import `training`, `export` or `cli`.
"""
