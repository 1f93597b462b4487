"""Gradients between backpropagation and the step: scaling for float16, and clipping."""
