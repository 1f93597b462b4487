"""Pipelines as a server: texts of many requests are annotated in common batches.

This folder makes the batches, and knows no HTTP. The folder `http` has the FastAPI application, the
folder `page` the page to try a pipeline. The room may import `component` and the rooms below it.
FastAPI, uvicorn and prometheus-client come with the extra [serve].
"""
