# One server as a process: its folder and pid, its port, how it is started, waited for and ended. Sourced by dev/servers after lib.sh.
# shellcheck shell=bash disable=SC2154  # dev_dir, instance and half_made are those of the other files

# ---- one server's folder ---------------------------------------------------------------------------------------------------------

server_dir() { echo "$dev_dir/run/$instance/$1"; }

# Prints the pid when the server runs. The pid file alone is not believed: the process must have this server's folder in its command.
running_pid() { # SERVER
    local dir pid
    dir="$(server_dir "$1")"
    pid="$(cat "$dir/pid" 2>/dev/null)" || return 1
    [[ "$pid" =~ ^[0-9]+$ ]] && is_ours "$pid" "$dir" && echo "$pid"
}

# A killed process whose first thread is a zombie already may have others that still hold its port.
is_alive() { # PID
    local state tasks
    state="$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)" && [[ -n "$state" ]] || return 1
    tasks=(/proc/"$1"/task/*)
    [[ "$state" != Z ]] || ((${#tasks[@]} > 1))
}

is_ours() { # PID FOLDER
    local command
    is_alive "$1" || return 1
    command="$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")" || return 1
    [[ "$command" == *"$2/"* ]]
}

# Every instance that has a folder.
instances() {
    local dir
    for dir in "$dev_dir"/run/*/; do
        [[ ! -d "$dir" ]] || basename "$dir"
    done
}

# True when a socket of this machine has the local TCP port, in one of the states named (hexadecimal, as in /proc/net/tcp; 0A listens).
port_is_taken() { # PORT [STATES]
    local hex
    printf -v hex ':%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$hex\$" -v states="${2:-.}" '$2 ~ port && $4 ~ states { found = 1 } END { exit !found }'
}

# Picks the port at the first start; from then on it is this server's. From below the range that outgoing connections are given.
choose_port() { # SERVER
    local dir port tries lock
    dir="$(server_dir "$1")"
    if [[ -s "$dir/port" ]]; then
        port="$(<"$dir/port")"
        # A server that was killed a moment ago may still hold it.
        for ((tries = 0; tries < 50; tries++)); do
            port_is_taken "$port" 0A || return 0
            sleep 0.1
        done
        port_holder "$port"
        die "Port $port of $1 (instance $instance) is taken by another process. End that one, or delete $dir/port to have another port chosen."
    fi
    take_lock "$dev_dir/run/.ports.lock" 60 "another dev/servers that chooses a port"
    lock=$lock_fd
    for ((tries = 0; tries < 200; tries++)); do
        port=$((20000 + RANDOM % 12000))
        if ! port_is_taken "$port" && ! grep -qx "$port" "$dev_dir"/run/*/*/port 2>/dev/null; then
            echo "$port" >"$dir/port"
            exec {lock}>&-
            return 0
        fi
    done
    die "No free port between 20000 and 32000 was found."
}

port_holder() { # PORT
    if type -P ss >/dev/null; then
        ss -Hltnp "sport = :$1" >&2 || true
    fi
}

# ---- starting --------------------------------------------------------------------------------------------------------------------

# What this run has started and not yet seen ready, as "SERVER PID": ended by the trap.
unready=()
declare -A launched_at

# Starts a server that outlives this script and its terminal.
launch() { # SERVER COMMAND…
    local server="$1" dir pid
    shift
    dir="$(server_dir "$server")"
    printf '\n==== started %s by dev/servers ====\n' "$(date '+%F %T')" >>"$dir/log"
    detached "$@" </dev/null >>"$dir/log" 2>&1 &
    pid=$!
    unready+=("$server $pid")
    launched_at[$server]=$EPOCHREALTIME
    echo "$pid" >"$dir/pid"
    disown "$pid"
}

wait_until_ready() { # SERVER
    local server="$1" dir pid deadline
    dir="$(server_dir "$server")"
    pid="$(<"$dir/pid")"
    deadline=$((SECONDS + 180))
    until "$(family_of "$server")_is_ready" "$server" "$dir"; do
        is_alive "$pid" || failed_start "$server" "ended while starting"
        ((SECONDS < deadline)) || failed_start "$server" "was not ready after 180 s"
        sleep 0.1
    done
    # Ready, but is it ours that answers?
    is_ours "$pid" "$dir" || failed_start "$server" "ended while starting"
    forget_unready "$server"
    say "$server: ready on $(address "$server") after $(seconds_since "${launched_at[$server]}") s"
}

forget_unready() { # SERVER
    local entry kept=()
    for entry in "${unready[@]}"; do
        [[ "$entry" == "$1 "* ]] || kept+=("$entry")
    done
    unready=("${kept[@]}")
}

seconds_since() { # EPOCHREALTIME
    local now=$EPOCHREALTIME micros
    micros=$((${now/[.,]/} - ${1/[.,]/}))
    printf '%d.%d' $((micros / 1000000)) $((micros / 100000 % 10))
}

failed_start() { # SERVER WHAT
    local dir
    dir="$(server_dir "$1")"
    say "---- the end of $dir/log"
    tail -n 25 "$dir/log" >&2
    say "----"
    die "$1 (instance $instance) $2."
}

# The trap of everything that starts: ends what is half-started and what is half-fetched. Servers that were ready stay.
end_half_done() {
    local rc=$? entry server pid dir
    trap - EXIT INT TERM HUP
    end_long
    for entry in "${unready[@]}"; do
        server="${entry% *}" pid="${entry#* }"
        dir="$(server_dir "$server")"
        kill -KILL "$pid" 2>/dev/null || true
        rm -f "$dir/pid"
        # A port that was chosen by this very run and could not be used is not kept.
        [[ " ${new_ports[*]} " != *" $server "* ]] || rm -f "$dir/port"
    done
    [[ -z "$half_made" ]] || rm -rf "$half_made"
    exit "$rc"
}

new_ports=()
instance_lock=''

lock_instance() {
    mkdir -p "$dev_dir/run"
    take_lock "$dev_dir/run/$instance.lock" 1200 "another dev/servers at work on the instance $instance"
    instance_lock=$lock_fd
}

unlock_instance() {
    exec {instance_lock}>&-
}

catch_signals() {
    trap end_half_done EXIT
    trap 'say "interrupted"; exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

# ---- ending ----------------------------------------------------------------------------------------------------------------------

stop() { # SIGNAL SERVER
    local signal="$1" server="$2" dir pid deadline
    dir="$(server_dir "$server")"
    if ! pid="$(running_pid "$server")"; then
        rm -f "$dir/pid"
        return 0
    fi
    kill -"$signal" "$pid" 2>/dev/null || true
    deadline=$((SECONDS + 60))
    while is_alive "$pid"; do
        if ((SECONDS >= deadline)); then
            is_ours "$pid" "$dir" || break
            warn "$server (instance $instance, pid $pid) did not end within 60 s of SIG$signal: SIGKILL"
            kill -KILL "$pid" 2>/dev/null || true
            deadline=$((SECONDS + 60))
        fi
        sleep 0.05
    done
    rm -f "$dir/pid"
    say "$server (instance $instance): ended"
}
