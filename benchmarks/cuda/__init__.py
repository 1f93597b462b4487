"""Speed and equality on a CUDA device: `python -m benchmarks.cuda`."""
