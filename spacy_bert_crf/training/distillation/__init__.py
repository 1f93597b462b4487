"""A smaller student that learns from a trained pipeline: the command `distill`.

`settings` has what can be set, `texts` reads texts without annotation, `student` makes the student,
`teacher` says what it is to learn, and `distill` trains it with the usual loop.
"""
