"""Gradients → update: one file an optimiser, on flat vectors, in place."""
