"""Distribution of spacy-bert-crf. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGE = (HERE / "spacy_bert_crf" / "__init__.py").read_text(encoding="utf8")
VERSION = re.findall(r'^__version__ = "(.+)"$', PACKAGE, re.MULTILINE)[0]

_ANNOTATE = ["pyarrow>=16", "fsspec>=2024.2", "psutil>=5.9"]

setup(
    name="spacy-bert-crf",
    version=VERSION,
    description="Named entities in spaCy by BERT and a linear-chain CRF, Chinese first",
    long_description=(HERE / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["spacy_bert_crf", "spacy_bert_crf.*"]),
    package_data={
        "spacy_bert_crf": [
            "py.typed",
            "export/readme/*.md",
            "export/readers/*.py",
            "export/package/*.md",
            "project/template/*",
            "project/packaged/*.txt",
            *(f"evaluation/report/page.{kind}" for kind in ("html", "css", "js")),
            "serving/page/*",
        ]
    },
    install_requires=[
        "spacy>=3.8.15,<3.9",
        "thinc>=8.3.12,<8.4",
        "transformers>=4.48,<6",
        "tokenizers>=0.21",
        "torch>=2.6",
        "safetensors>=0.4.3",
        "numpy>=2.0",
        "scipy>=1.13",
        "srsly>=2.5.3,<3",
        "wasabi>=1.1,<1.2",
        "typer>=0.16,<1",
        "tqdm>=4.60",
        "packaging>=22",
        "xxhash>=3.2",
        "jinja2>=3.0.3",
        "huggingface-hub>=0.34",
        "markupsafe>=2.1",
    ],
    extras_require={
        # What the project's steps (scripts/) import beside the package.
        "project": ["pooch>=1.8", "requests>=2.32.2", "urllib3>=2.0.7"],
        # A transformer that several components share. spacy-transformers has its own range of
        # transformers: that of 1.4.0 ends below 4.53.3.
        "shared": ["spacy-transformers>=1.4.0"],
        "onnx": ["onnx>=1.19", "onnxruntime>=1.19"],
        "tensorboard": ["tensorboard>=2.14"],
        # Wheels of trained pipelines.
        "package": ["build>=1.1.1"],
        # Dictionaries of names in decoding.
        "dictionary": ["ahocorasick_rs>=0.22"],
        # Annotation of a corpus of any size, on one machine; [ray] and [spark] are for several.
        "annotate": _ANNOTATE,
        "ray": [*_ANNOTATE, "ray[data]>=2.40"],
        "spark": [*_ANNOTATE, "pyspark>=3.5", "pandas>=2"],
        # Pipelines over HTTP. uvicorn uses httptools and uvloop where they are.
        "serve": [
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "httptools>=0.6.3",
            "uvloop>=0.19; sys_platform != 'win32'",
            "starlette>=0.37.2",
            "pydantic>=2.7",
            "prometheus-client>=0.20",
        ],
        # Pipelines inside of other tools. Prodigy's adapter needs Prodigy, which has a licence.
        "presidio": ["presidio-analyzer>=2.2.355"],
        "label-studio": ["label-studio-ml>=1.0.9", "redis>=4", "rq>=1.16", "requests>=2.32.2"],
        # Parquet files as corpora.
        "parquet": ["pyarrow>=16"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "seqeval>=1.2.2",
            "pytorch-crf==0.7.2",
            "build",
            "httpx>=0.27",
            "httpx2>=2.0",
        ],
        "docs": [
            "mkdocs>=1.6",
            "mkdocs-material>=9.6",
            "mkdocstrings[python]>=0.29",
            "jieba>=0.42",
        ],
        # The tests of pages in a browser. They are skipped where no Chromium is found.
        "browser": ["playwright>=1.40", "axe-playwright-python>=0.1.4"],
        "lint": ["ruff", "mypy", "codespell", "import-linter", "types-requests", "types-tqdm"],
    },
    entry_points={
        "spacy_factories": [
            "bert_crf = spacy_bert_crf.component.factory:make_bert_crf",
            "bert_crf_encoder = spacy_bert_crf.component.shared.encoder:make_bert_crf_encoder",
        ],
        "spacy_misc": [
            "spacy_bert_crf.packaged_encoder.v1 = "
            "spacy_bert_crf.project.packaged.fetch:packaged_folder"
        ],
        "spacy_architectures": [
            "spacy_bert_crf.BertCrf.v1 = spacy_bert_crf.model.architectures:create_bert_crf",
            "spacy_bert_crf.Encoder.v1 = spacy_bert_crf.model.architectures:create_encoder",
            "spacy_bert_crf.EncoderListener.v1 = "
            "spacy_bert_crf.model.architectures:create_encoder_listener",
        ],
        # Without Prodigy this is not imported.
        "prodigy_recipes": [
            "bert-crf.correct = spacy_bert_crf.adapters.prodigy:correct",
        ],
        "spacy_tokenizers": [
            "spacy_bert_crf.WholePieces.v1 = "
            "spacy_bert_crf.encoder.piece_tokenizer:create_piece_tokenizer",
        ],
        "spacy_batchers": [
            "spacy_bert_crf.batch_by_length.v1 = "
            "spacy_bert_crf.training.batcher:create_batch_by_length",
        ],
        "spacy_callbacks": [
            "spacy_bert_crf.learn_new_labels.v1 = "
            "spacy_bert_crf.training.new_labels:create_learn_new_labels",
            "spacy_bert_crf.student.v1 = "
            "spacy_bert_crf.training.distillation.student:create_student",
        ],
        "spacy_readers": [
            "spacy_bert_crf.Corpora.v1 = spacy_bert_crf.training.corpora:create_corpora",
            "spacy_bert_crf.WithTexts.v1 = "
            "spacy_bert_crf.training.distillation.texts:create_with_texts",
        ],
        "spacy_loggers": [
            "spacy_bert_crf.ProgressLogger.v1 = "
            "spacy_bert_crf.training.progress:create_progress_logger",
            "spacy_bert_crf.TensorBoardLogger.v1 = "
            "spacy_bert_crf.training.loggers:create_tensorboard_logger",
        ],
        "thinc_optimizers": [
            "spacy_bert_crf.AdamW.v1 = spacy_bert_crf.model.optimizer:create_adamw"
        ],
        "spacy_cli": ["bert-crf = spacy_bert_crf.cli"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Natural Language :: Chinese (Simplified)",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
