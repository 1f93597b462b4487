"""Pipelines of this package beside Baidu LAC."""
