"""Which texts to annotate next, and tasks for annotation tools.

`uncertainty` scores a text by the exact posterior of the CRF. `pool` reads a stream of texts and
keeps the highest scores. `diversity` chooses among these texts those that differ. `select` does all
of it. `predicted` adds what the pipeline finds in the texts chosen, and `tasks` writes them.

This room is a part of `evaluation`, and may import the rest of it and what that may import.
"""
