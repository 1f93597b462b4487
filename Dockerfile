# A server of trained pipelines on CPUs (docs/serve.md).
#
#     docker build -t bert-crf-serve .
#     docker run -p 8000:8000 -v "$PWD/training/quickstart/model-best:/pipelines/news:ro" \
#         -e SPACY_BERT_CRF_TOKEN=secret bert-crf-serve
FROM python:3.11-slim-bookworm

# For a GPU, use these lines instead of the one above, and the lines marked GPU below. The driver and
# the container toolkit of the GPU's maker must be on the host.
# FROM nvidia/cuda:12.6.3-runtime-ubuntu24.04
# RUN apt-get update \
#     && apt-get install -y --no-install-recommends python3 python3-pip python3-venv \
#     && rm -rf /var/lib/apt/lists/* \
#     && python3 -m venv /opt/venv
# ENV PATH=/opt/venv/bin:$PATH

# The word TOKEN in a name is no secret.
# hadolint ignore=DL3064
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 TOKENIZERS_PARALLELISM=false

WORKDIR /src
COPY requirements.txt setup.py pyproject.toml README.md LICENSE ./
COPY spacy_bert_crf spacy_bert_crf
# The tested versions, without the tools of tests. A CPU build of torch is much smaller than the
# default one: point pip at it by the build argument, for example an index of wheels for CPUs.
ARG TORCH_INDEX=""
RUN grep -v '^-e' requirements.txt > /tmp/constraints.txt \
    && if [ -n "$TORCH_INDEX" ]; then \
        pip install --index-url "$TORCH_INDEX" -c /tmp/constraints.txt torch; fi \
    && pip install -c /tmp/constraints.txt '.[serve]' \
    && rm /tmp/constraints.txt
# GPU:
# RUN pip install cupy-cuda12x

RUN useradd --create-home --uid 10001 serve
USER 10001
WORKDIR /home/serve

EXPOSE 8000
# A container's own address is not the loopback one. Set a token, or publish the port to 127.0.0.1.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "spacy", "bert-crf", "serve", "--host", "0.0.0.0", "--port", "8000"]
# Several pipelines: docker run … bert-crf-serve news=/pipelines/news law=/pipelines/law
CMD ["/pipelines/news"]
# GPU:
# CMD ["--gpu-id", "0", "/pipelines/news"]
