"""Evaluation: how good a pipeline is, how sure it may be, and where it or its corpus is wrong.

This room may import `component` and what lies below it (`model`, `crf`, `encoder`, `annotation`),
and the modules known to all. It does not import `training`, `export` or `cli`.
"""
