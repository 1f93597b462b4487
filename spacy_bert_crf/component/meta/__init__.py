"""What a pipeline's meta.json says of it: its encoders, their origin, and a name and description.

`keys` reads some keys of a meta.json, `encoders` describes the encoders, and `describe` writes what
a training knows of its pipeline.
"""
