"""Entities as annotation: tag schemes, gold of an Example, allowed tags, column files, DocBins.

This room imports spaCy and numpy, and no torch, so that corpora are converted without it. Of this
package it may import only `errors`, `_files`, `_signals` and `_provenance`.
"""
