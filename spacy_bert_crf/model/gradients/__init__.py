"""Gradients of an update: of what a teacher expects, for float16, adversarial, and clipped."""
