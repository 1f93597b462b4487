"""Triton kernels of the CRF for CUDA: forward-backward and Viterbi.

A program computes one sequence, with a loop over its steps. So a batch takes a few launches
instead of several for each step. `availability` tells where the kernels can be used. Triton comes
with the CUDA builds of torch, and is imported where the kernels are used only.
"""
