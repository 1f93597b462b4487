"""The input: files of many formats, here or in an object store, read as a stream of rows."""
