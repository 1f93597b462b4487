"""A trained pipeline as a part of other tools: Presidio, Label Studio, Prodigy.

Each module adapts one tool and needs the package of that tool; two of them come with the extras
[presidio] and [label-studio]. The room may import `evaluation` and the rooms below it. No room
imports it.
"""
