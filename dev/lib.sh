# What the scripts in dev/ share: words to the terminal, tools that a fresh machine lacks, and long commands that Ctrl-C ends.
# Sourced, never run. It sets: root (the checkout), dev_dir (the ignored folder), and the versions from dev/versions.env.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=dev/versions.env
source "$root/dev/versions.env"
dev_dir="${EVERRELAY_DEV_DIR:-$root/.dev}"
mkdir -p "$dev_dir"
# Without symbolic links: a server is recognised by this path in its command.
dev_dir="$(cd "$dev_dir" && pwd -P)"

# shellcheck disable=SC2034  # used by those who source this
if [[ -t 2 && -z "${CI:-}" && -z "${NO_COLOR:-}" ]]; then
    bold=$'\e[1m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' yellow='' plain=''
fi

# Words for people go to standard error: standard output is for what was asked for.
say() { printf '%s\n' "$*" >&2; }
warn() { printf '%s%s%s\n' "$yellow" "$*" "$plain" >&2; }
die() {
    printf '%s%s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# The process group of the long command that is waited for, and the signal that ends it, for the INT and TERM traps of the caller.
long_pid='' long_signal=TERM

# run_long LOG COMMAND…   Runs a command so that a signal to this script is acted upon at once: bash runs no trap while a foreground
# command lasts. The command is in a session of its own; `end_long` in the caller's trap ends all of it. LOG is added to, or `-` for none.
# (A redirection of the call itself would swallow what a trap says.)
run_long() {
    local log="$1" rc=0
    shift
    if [[ "$log" == - ]]; then
        detached "$@" </dev/null &
    else
        detached "$@" </dev/null >>"$log" 2>&1 &
    fi
    long_pid=$!
    wait "$long_pid" || rc=$?
    long_pid=''
    return "$rc"
}

# Becomes a command in a session of its own that holds no file of ours or of our caller's: no lock, no pipe whose reader waits for its
# end. For the background only (`detached … &`, then $! is the command's pid).
detached() {
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
        fd="${fd##*/}"
        ((fd <= 2)) || eval "exec $fd>&-"
    done
    exec setsid "$@"
}

end_long() {
    [[ -n "$long_pid" ]] || return 0
    kill "-$long_signal" -- "-$long_pid" 2>/dev/null || kill "-$long_signal" "$long_pid" 2>/dev/null || true
    wait "$long_pid" 2>/dev/null || true
    long_pid=''
}

# take_lock FILE SECONDS WHAT   Waits that long for the lock on a file, says what it waits for, and sets lock_fd; closing that frees it.
take_lock() {
    local deadline=$((SECONDS + $2))
    exec {lock_fd}>"$1"
    flock -n "$lock_fd" || say "waiting for $3"
    until flock -n "$lock_fd"; do
        ((SECONDS < deadline)) || die "Waited $2 s for $3, which has the lock on $1"
        sleep 0.2
    done
}

# quietly NAME COMMAND…   A long command whose output is shown only when it fails, which ends the script.
quietly() {
    local name="$1" log
    shift
    log="$(mktemp "$dev_dir/.log-XXXXXX")"
    if ! run_long "$log" "$@"; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "$name failed: $*"
    fi
    rm -f "$log"
}

# need_tools TOOL:PACKAGE…   Installs the packages of the tools that are missing, or says how. A tool written `pkg-config=NAME` is a
# library that pkg-config must know.
need_tools() {
    local pair tool packages=()
    for pair in "$@"; do
        tool="${pair%%:*}"
        case "$tool" in
        pkg-config=*) pkg-config --exists "${tool#*=}" 2>/dev/null && continue ;;
        *) type -P "$tool" >/dev/null && continue ;;
        esac
        packages+=("${pair#*:}")
    done
    ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
}

install_packages() {
    local get=(env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends)
    type -P apt-get >/dev/null || die "Missing: $*. This machine has no apt-get: install them in its own way."
    if ((EUID != 0)); then
        die "Missing: $*. Install with:  sudo apt-get install -y --no-install-recommends $*"
    fi
    say "installing with apt-get: $*"
    # A fresh machine has no package lists yet, or old ones.
    if ! run_long /dev/null "${get[@]}" install "$@"; then
        quietly "reading the package lists" "${get[@]}" update
        quietly "installing" "${get[@]}" install "$@"
    fi
}

need_cargo() {
    type -P cargo >/dev/null ||
        die "Missing: cargo. Install Rust (stable, with rustfmt and clippy) by rustup: https://rustup.rs says how."
    # openssl-sys comes with mysql_cdc, which reads MariaDB's GTID events.
    need_tools cc:gcc pkg-config:pkg-config pkg-config=openssl:libssl-dev
}
