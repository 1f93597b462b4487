"""Faster updates on CPUs: BERT layers that compute their own gradients, and dropout.

Modules here take a Hugging Face encoder and import torch and numpy, no spaCy and no transformers.
"""
