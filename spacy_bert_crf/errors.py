"""The exceptions that users of this package meet."""


class BertCrfError(ValueError):
    """Bad input: a file, a setting or a model that can't be used as it is.

    The message says what is wrong, where (file, line, entity, key) and what to do.
    The commands print it without a traceback and end with exit status 1.
    """


def first_line(err: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none.

    Libraries add advice and tracebacks of their own below the line that counts. The message of a
    KeyError is only the key, so that the line says what it is.
    """
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    if not lines:
        return type(err).__name__
    return f"no entry {lines[0]}" if isinstance(err, KeyError) else lines[0]
