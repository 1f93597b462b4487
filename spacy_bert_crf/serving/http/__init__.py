"""The server's HTTP: routes, forms of requests and answers, limits, metrics, streams.

The modules need FastAPI and prometheus-client, of the extra [serve].
"""
