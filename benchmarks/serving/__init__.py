"""A server under load, beside `nlp.pipe` on the same texts."""
