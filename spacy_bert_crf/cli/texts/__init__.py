"""Commands that run a pipeline on texts, in large numbers or over HTTP."""
