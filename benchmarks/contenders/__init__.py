"""The contenders of benchmarks/time_to_accuracy.py, one module each, and the data sets that they train on.

The module of a contender has `prepare(run)`, which returns the options to start it with, from a short calibration if
there are several, and `start(run, **options)`, which returns a `common.Contender`. It imports its own framework only.
"""
