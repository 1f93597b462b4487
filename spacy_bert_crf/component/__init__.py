"""The component `bert_crf`, as `nlp.add_pipe` adds it.

Its factory, its settings, reading of probabilities, and writing of entities to docs. Also how to
load a pipeline and find the component in it. May import `model`, `annotation`, `crf`, `encoder`
and the private helpers of the package. Knows no training loop, no evaluation and no export.
"""
