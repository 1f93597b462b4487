"""The conditional random field: likelihood, Viterbi decoding, marginals and the tag head.

This room can be used alone. It imports torch and numpy, no spaCy and no transformers. On CUDA it
also imports triton, which comes with torch. Of this package it may import only `errors`, `_files`,
`_signals` and `_provenance`.
"""
