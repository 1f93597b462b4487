"""A trained pipeline for use outside spaCy, and back.

`folder` writes best_model.pt with its companions, and further formats in folders beside it.
`open` opens them again, `compare` measures them against their pipeline, `import_model` makes a
pipeline of trained weights, our own or foreign. `formats/` holds one module for each format.
This room may import `evaluation` and the rooms below it, but neither `training` nor `cli`.
"""
