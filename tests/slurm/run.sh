#!/usr/bin/env bash
# Runs the tests that need a SLURM, with a SLURM of their own. Where it cannot be installed, it says so and succeeds.
#   run.sh PYTHON
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
NODE=$HERE/single_node.sh
PYTHON=$1

skip() {
    printf 'skipped: the tests that need SLURM were not run: %s\n' "$1"
    exit 0
}

[[ $(id -u) == 0 ]] || skip "only root can install and start it"
command -v apt-get >/dev/null || skip "there is no apt-get to install it with"
SLURM_NODE_DIR=$(mktemp -d)
export SLURM_NODE_DIR
chmod 755 "$SLURM_NODE_DIR"
for program in slurmctld slurmd munged sbatch; do
    command -v "$program" >/dev/null && continue
    "$NODE" install >"$SLURM_NODE_DIR/apt.log" 2>&1 ||
        skip "its packages cannot be installed: $(tail -n 1 "$SLURM_NODE_DIR/apt.log")"
done
trap '"$NODE" down; rm -rf "$SLURM_NODE_DIR"' EXIT
"$NODE" up
export PHASEVAE_TEST_SLURM=$SLURM_NODE_DIR
SLURM_CONF=$SLURM_NODE_DIR/etc/slurm.conf "$PYTHON" -m pytest -m slurm -n 0 "$HERE"
