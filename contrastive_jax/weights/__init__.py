"""Weights of other libraries in, and of ours out."""
