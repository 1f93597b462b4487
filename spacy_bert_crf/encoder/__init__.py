"""A Hugging Face encoder: convert and load it, plan its passes over docs, and run it.

This room imports torch and transformers. Only passes.py, two modules of the folder `texts` (spaCy's
Doc) and piece_tokenizer.py (a tokenizer of spaCy) know spaCy. Of this package it may import only
`errors`, `_files`, `_signals` and `_provenance`. The folders `cpu` and `cuda` have the code for
faster prediction on CPUs and on GPUs, `smaller` that for the encoders of students.
"""
