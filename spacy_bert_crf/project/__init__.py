"""A spaCy project of one's own, made from a corpus as it is.

`survey` says what is in the corpus, and `language` finds its language. `split` divides it into
train, dev and test. `encoder` obtains an encoder. `make` writes the folder, with the files in
`template/`. `packaged/` is the encoder that comes through pip. This room may import `annotation`,
`encoder`, `training` and the rooms below. Only `cli` imports it.
"""
