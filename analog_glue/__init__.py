"""Transformers on crossbars of phase-change memory: train, program, age, compensate, score.

The package is a ladder, and each step imports only what stands above it: kernels, devices, tiles, nn, training,
tasks and models, evaluation, results, experiment, cli. Nothing is imported here, so `analog-glue --help` is quick.
"""

__version__ = "0.1.0"
