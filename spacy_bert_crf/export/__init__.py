"""Export of trained pipelines for use outside spaCy, and import of trained weights.

`folder` writes best_model.pt with its companions, and further formats in folders beside it.
`open` opens them again. `compare` measures them against their pipeline. `import_model` makes a
pipeline of trained weights, of this package or foreign. `formats/` holds a module for each format.
`package/` builds a wheel of a pipeline, with complete meta.json and model card.
This room may import `evaluation` and the rooms below it, but neither `training` nor `cli`.
"""
