"""Training: the loop behind `bert-crf train`, its saved state, batcher and progress display.

This room may import `component` and what lies below it (`model`, `crf`, `encoder`, `annotation`),
and the modules known to all. It does not import `evaluation`, `export` or `cli`.
"""
