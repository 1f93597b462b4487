"""The exceptions that users of this package meet."""


class BertCrfError(ValueError):
    """Bad input: a file, a setting or a model that can't be used as it is.

    The message says what is wrong, where (file, line, entity, key) and what to do.
    The commands print it without a traceback and end with exit status 1.
    """
