"""Smaller encoders made of a trained one: fewer layers, and fewer channels inside of them.

Modules here import torch and `encoder.hf`, no spaCy.
"""
