"""A client of the application, without a socket."""

from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from spacy_bert_crf.serving.annotator import Annotator
from spacy_bert_crf.serving.http.app import create_app
from spacy_bert_crf.serving.settings import ServerSettings


@pytest.fixture
def connect(unsure):
    """A function that starts an application and gives its client.

    pipelines: names of the pipelines, all of which are the toy.
    settings: of ServerSettings.
    """
    with ExitStack() as stack:

        def start(*pipelines, **settings):
            loaders = {
                name: lambda name=name: Annotator(unsure, name) for name in pipelines or ("toy",)
            }
            app = create_app(loaders, ServerSettings(**settings))
            client = stack.enter_context(TestClient(app, base_url="http://localhost"))
            app.state.service.batcher.wait_ready(30)
            return client

        yield start


@pytest.fixture
def client(connect):
    """The client of an application with the settings by default."""
    return connect()
