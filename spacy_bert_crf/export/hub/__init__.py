"""A trained pipeline for a model hub: its card with the hub's metadata, its folder, its upload.

`measure` scores a pipeline for its card, and `card` writes the card. `card_data` makes the metadata
at its top, with `licenses` as the hub names them. `layout` makes the folder of a repository, and
`modelscope` that of ModelScope. `push` uploads a folder.
"""
