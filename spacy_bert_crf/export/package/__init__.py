"""A trained pipeline as an installable package: complete meta.json, model card and wheel.

`about` reads what only its maker knows, such as name and licence. `meta` completes meta.json, and
`card` makes the model card of it. `wheel` builds the wheel.
"""
