#!/bin/sh
# Run by Snakemake in the working directory, inside the new environment: add phasevae, from the repository.
set -eu
python -m pip install --no-deps --no-build-isolation .
