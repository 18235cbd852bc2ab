#!/bin/bash
# A PostgreSQL to throw away: for `make run`, the tests and the bench. Loopback only, trust only.
#
#   scratch.sh init DIR [NAME=VALUE...]  make a cluster in DIR (settings as in postgresql.conf)
#   scratch.sh run DIR                   serve it in the foreground; it ends with its parent process
#   scratch.sh start DIR                 serve it in the background and wait until it answers
#   scratch.sh stop DIR                  stop it, whoever is connected; DIR stays
#   scratch.sh wait DIR                  wait until it answers
#   scratch.sh env DIR                   print PGHOST PGPORT PGUSER PGDATABASE PGSOCKET, one a line
#   scratch.sh bin                       print the folder of initdb and postgres
#   scratch.sh as COMMAND...             run a command as the user PostgreSQL accepts
#
# PostgreSQL refuses to run as root: then it, its files, and what `as` runs belong to user postgres.
# DIR/log is the server's log, DIR/sock the folder of its Unix socket.
set -euo pipefail

die() {
    echo "scratch.sh: $*" >&2
    exit 1
}

bin_dir() {
    local dir
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5nr); do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && echo "$dir" && return
    done
    dir=$(command -v initdb) || die "no PostgreSQL server found; try: make deps"
    dirname "$(readlink -f "$dir")"
}

if [ "$(id -u)" = 0 ]; then
    owner=postgres
    id -u "$owner" >/dev/null 2>&1 || owner=nobody
    as=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")" --init-groups)
else
    owner=$(id -un)
    as=()
fi

free_port() {
    local port
    for _ in $(seq 200); do
        # Below the range the kernel takes ports of outgoing connections from.
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
    done
    die "no free port found"
}

init() {
    local dir=$1 setting
    shift
    mkdir -p "$dir/sock"
    : >>"$dir/log"
    [ "$(id -u)" != 0 ] || chown "$owner" "$dir" "$dir/sock" "$dir/log"
    (cd / && "${as[@]}" "$(bin_dir)/initdb" -D "$dir/data" -U postgres --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1) ||
        { cat "$dir/initdb.log" >&2 && die "initdb failed"; }
    {
        echo "listen_addresses = '127.0.0.1'"
        echo "port = $(free_port)"
        echo "unix_socket_directories = '$dir/sock'"
        echo "fsync = off"
        echo "log_line_prefix = '%m [%p] %a '"
        for setting; do
            echo "${setting%%=*} = '${setting#*=}'"
        done
    } >>"$dir/data/postgresql.conf"
}

port_of() { sed -n 's/^port = //p' "$1/data/postgresql.conf" | tail -n 1; }

run() {
    local dir=$1
    cd /
    # Its own session, so that Ctrl-C in a terminal reaches only whoever is to stop it in order.
    exec setsid "${as[@]}" setpriv --pdeathsig INT "$(bin_dir)/postgres" -D "$dir/data" \
        >>"$dir/log" 2>&1 </dev/null
}

wait_for() {
    local dir=$1
    for _ in $(seq 600); do
        "$(bin_dir)/pg_isready" -q -h "$dir/sock" -p "$(port_of "$dir")" && return
        sleep 0.1
    done
    tail -n 20 "$dir/log" >&2
    die "PostgreSQL did not start in 60 s"
}

ctl() {
    local dir=$1
    shift
    (cd / && "${as[@]}" "$(bin_dir)/pg_ctl" -D "$dir/data" -l "$dir/log" -s -t 60 -w "$@" \
        </dev/null)
}

command=${1-}
[ -n "$command" ] || die "give a command; see the top of this file"
shift
case $command in bin | as) ;; *)
    [ -n "${1-}" ] || die "$command needs a DIR"
    mkdir -p "$1"
    dir=$(readlink -f "$1")
    shift
    ;;
esac
case $command in
bin) bin_dir ;;
as) "${as[@]}" "$@" ;;
init) init "$dir" "$@" ;;
run) run "$dir" ;;
wait) wait_for "$dir" ;;
start) ctl "$dir" start >/dev/null ;;
stop) ctl "$dir" -m fast stop ;;
env)
    printf 'PGHOST=127.0.0.1\nPGPORT=%s\nPGUSER=postgres\nPGDATABASE=postgres\nPGSOCKET=%s\n' \
        "$(port_of "$dir")" "$dir/sock"
    ;;
*) die "unknown command: $command" ;;
esac
