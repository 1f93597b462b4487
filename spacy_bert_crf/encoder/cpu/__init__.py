"""Faster training and prediction on CPUs: layers, dropout, 8-bit integers and their smoothing.

Modules here take a Hugging Face encoder and import torch and numpy, no spaCy and no transformers.
"""
