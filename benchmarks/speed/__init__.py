"""Characters per second, memory and training speed beside other software."""
