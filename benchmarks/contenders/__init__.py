"""Who is compared by benchmarks/time_to_accuracy.py, one module each, and what they are compared on.

A contender's module has `prepare(run)`, the options to start it with, found by a short calibration where there are any,
and `start(run, **options)`, which gives a `common.Contender`. Only its own framework is imported by a module.
"""
