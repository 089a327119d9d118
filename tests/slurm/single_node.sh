#!/usr/bin/env bash
# A real SLURM on one machine, for the tests: munged, slurmctld and slurmd from Debian's packages, on loopback alone,
# without systemd, cgroups or accounting. Needs root. It writes to a single folder, and makes three links in /etc/slurm:
# jobs of Snakemake's SLURM executor start their steps without SLURM_CONF, so srun must find its configuration itself.
#
#   single_node.sh install   the packages, by apt-get
#   single_node.sh up        start the daemons and wait until the node takes jobs
#   single_node.sh down      end the daemons that `up` started
#
# SLURM_NODE_DIR   the folder (default: slurm-node in the folder for temporary files)
# SLURM_NODE_CPUS  CPUs that the node offers, whatever the machine has (default 4)
# SLURM_NODE_GPUS  GPUs that it pretends to have: they are scheduled like real ones (default 2)
set -euo pipefail

DIR=${SLURM_NODE_DIR:-${TMPDIR:-/tmp}/slurm-node}
CPUS=${SLURM_NODE_CPUS:-4}
GPUS=${SLURM_NODE_GPUS:-2}
HOST=$(hostname -s)
SOCKET=$DIR/munge/socket
LINKED=(slurm.conf gres.conf cgroup.conf)
DAEMONS=(munged slurmctld slurmd)

say() { printf 'slurm node: %s\n' "$*" >&2; }

install_packages() {
    local policy=/usr/sbin/policy-rc.d made=
    # Packages must not start their daemons with the system's configuration.
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    local status=0
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; } >&2 || status=$?
    [[ -z $made ]] || rm -f "$policy"
    return "$status"
}

write_configuration() {
    mkdir -p "$DIR"/{etc,log,pid,state,spool,munge}
    chmod 711 "$DIR/munge"
    if [[ ! -s $DIR/munge/key ]]; then
        (umask 077 && head -c 1024 /dev/urandom >"$DIR/munge/key")
    fi
    local devices=(/dev/null /dev/zero /dev/full /dev/random) number
    : >"$DIR/etc/gres.conf"
    for ((number = 0; number < GPUS; number++)); do
        echo "Name=gpu File=${devices[number]}" >>"$DIR/etc/gres.conf"
    done
    printf '%s\n' CgroupAutomount=no ConstrainCores=no ConstrainRAMSpace=no ConstrainDevices=no >"$DIR/etc/cgroup.conf"
    local memory
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat >"$DIR/etc/slurm.conf" <<CONF
ClusterName=phasevae
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SOCKET
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=${SLURM_NODE_PORT:-36817}
SlurmdPort=$((${SLURM_NODE_PORT:-36817} + 1))
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/pid/slurmctld.own
SlurmdPidFile=$DIR/pid/slurmd.own
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# The node may offer more CPUs and memory than the machine has: the tests look at requests, not at speed.
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
# Without accounting, squeue shows how a job ended, as long as SLURM remembers the job.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=30
GresTypes=gpu
NodeName=$HOST NodeAddr=127.0.0.1 NodeHostname=$HOST CPUs=$CPUS RealMemory=$memory Gres=gpu:$GPUS State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$HOST MaxTime=INFINITE State=UP
CONF
}

link_configuration() {
    mkdir -p /etc/slurm
    local name
    for name in "${LINKED[@]}"; do
        if [[ -e /etc/slurm/$name && ! -L /etc/slurm/$name ]]; then
            say "/etc/slurm/$name is there already; another SLURM is left alone"
            exit 1
        fi
        ln -sfn "$DIR/etc/$name" "/etc/slurm/$name"
    done
}

running() { [[ -s $DIR/pid/$1 ]] && kill -0 "$(<"$DIR/pid/$1")" 2>/dev/null; }

start() { # start NAME COMMAND...
    local name=$1
    shift
    running "$name" && return
    setsid "$@" >"$DIR/log/$name.out" 2>&1 </dev/null &
    echo $! >"$DIR/pid/$name"
}

wait_until() { # wait_until SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            say "no answer from $what"
            tail -n 20 "$DIR"/log/* >&2
            return 1
        fi
        sleep 0.1
    done
}

node_is_idle() { sinfo --noheader --partition main --format %t | grep -qx idle; }

up() {
    write_configuration
    link_configuration
    export SLURM_CONF=$DIR/etc/slurm.conf
    start munged munged --foreground --force --key-file="$DIR/munge/key" --socket="$SOCKET" --pid-file="$DIR/munge/pid" \
        --seed-file="$DIR/munge/seed" --log-file="$DIR/log/munged.log"
    wait_until 20 munged munge --no-input --socket="$SOCKET"
    start slurmctld slurmctld -D -i -f "$SLURM_CONF"
    wait_until 30 slurmctld bash -c 'scontrol ping | grep -q UP'
    start slurmd slurmd -D -f "$SLURM_CONF"
    wait_until 30 slurmd node_is_idle
    say "$HOST takes jobs: $(sinfo --noheader --partition main --format '%c CPUs, %m MB, %G')"
}

down() {
    local name pid
    for name in slurmd slurmctld munged; do
        if running "$name"; then
            pid=$(<"$DIR/pid/$name")
            kill "$pid"
            for _ in $(seq 100); do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.1
            done
            kill -KILL "$pid" 2>/dev/null || true
        fi
        rm -f "$DIR/pid/$name"
    done
    for name in "${LINKED[@]}"; do
        if [[ $(readlink "/etc/slurm/$name") == "$DIR/etc/$name" ]]; then rm -f "/etc/slurm/$name"; fi
    done
}

case "${1:-}" in
    install) install_packages ;;
    up) up ;;
    down) down ;;
    *)
        sed -n '2,/^set /{/^set /!p}' "$0" >&2
        exit 2
        ;;
esac
