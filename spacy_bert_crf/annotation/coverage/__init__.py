"""Which labels the annotation of a doc covers, and corpora that call labels by other names.

`covers` reads and writes what a doc covers, `label_map` renames and drops labels, `scored` leaves
out what a doc does not cover before it is scored, and `table` shows corpora by label.
"""
