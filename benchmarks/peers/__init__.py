"""The other software, each run by path, most of it in a virtual environment of its own.

These files import nothing outside this folder but the software that they run.
"""
