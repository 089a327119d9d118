"""Estimates drawn from finished sweeps."""
