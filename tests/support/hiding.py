"""The beginning of a script that runs as if some packages were not installed."""

#: Hides the packages that the first argument names, separated by commas.
HIDING = """
import json, runpy, sys

BLOCKED = set(sys.argv[1].split(","))

class Hide:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *more):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, *more)

sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
"""
