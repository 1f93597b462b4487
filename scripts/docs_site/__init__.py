"""What the documentation site is made with: mkdocs hooks, docstring sections, drawings."""
