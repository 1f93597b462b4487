"""Tools of the documentation site: mkdocs hooks, docstring sections, drawings."""
