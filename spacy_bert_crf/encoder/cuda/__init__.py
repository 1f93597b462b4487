"""Faster prediction on CUDA: BERT's layers without padding, and passes without waits.

They take a Hugging Face encoder, and import torch and numpy, but no transformers.
"""
