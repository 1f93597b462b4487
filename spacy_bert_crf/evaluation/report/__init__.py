"""A page to look at: scores, errors and sentences of a pipeline, as one HTML file.

`make` collects what the page shows. `rows` finds the errors of each sentence, and `entities` holds
them. `intervals` has the bootstrap. `page` fills the template `page.html`.

This room is a part of `evaluation`, and may import the rest of it and what that may import.
"""
