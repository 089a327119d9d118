# For the scripts of this folder: commands that run beside others.
#   beside NAME COMMAND...    starts a command; what it prints is kept
#   finished NAME [LINES]     waits for it and shows what it printed, or its last lines; ends the script if it failed
# The script's folder SCRATCH and what still runs beside it end with the script.
declare -A BESIDE=()
SCRATCH=$(mktemp -d)

beside() {
    local name=$1
    shift
    setsid "$@" >"$SCRATCH/$name.beside" 2>&1 &
    BESIDE[$name]=$!
}

finished() {
    local name=$1 lines=${2:-+1} status=0
    wait "${BESIDE[$name]}" || status=$?
    unset "BESIDE[$name]"
    if [[ $status != 0 ]]; then
        cat "$SCRATCH/$name.beside"
        printf '== failed: %s\n' "$name"
        exit "$status"
    fi
    tail -n "$lines" "$SCRATCH/$name.beside"
}

end_all() {
    local process
    for process in "${BESIDE[@]}"; do
        kill -- "-$process" 2>/dev/null || true
    done
    rm -rf "$SCRATCH"
}
trap end_all EXIT
