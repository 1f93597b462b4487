"""Annotation of a corpus of any size: every document exactly once, on one machine or on many.

The input is read as a stream and cut into shards. Each shard becomes one output file, whose rename
commits the data together with its metadata. A run that was interrupted goes on with the shards that
are missing. This room may import `component` and the rooms below it. It needs the extra [annotate].
"""
