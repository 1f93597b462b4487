"""Silver annotation: what several sources say of a text, with doubt left unknown.

`sources/` are the sources, `agreement` decides what is an entity and what is unknown, `pairs`
compares sources two by two, `report` counts, `output` writes, and `bootstrap` does it all. Of this
package this folder may import `component` and what lies below it.
"""
