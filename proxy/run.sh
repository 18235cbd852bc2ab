#!/bin/bash
# `make run`: pgweir in front of a PostgreSQL, ready to be tried, gone without a trace on Ctrl-C.
#
# Which PostgreSQL:
#   (nothing)                  a scratch one in a folder of its own, removed at the end
#   PGHOST=HOST [PGPORT=5432]  that server, all its databases under their own names
#   DATABASE="host=... ..."    what stands right of `name =` in [databases]; it serves all names
# Who may come in: with PGPASSWORD, PGUSER (or you) by SCRAM and that password; else anybody who can
# reach 127.0.0.1 or the Unix socket. PORT (6432) and STATUS_PORT (9432) are wishes: the next free
# ones are taken. PGWEIR_BIN runs another binary.
#
# Nothing is installed, built or left outside O and one folder under TMPDIR. Each child has this
# script as its parent and dies with it, even by kill -9; Ctrl-C stops them in order.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$PWD/tests/scratch.sh
bin=${PGWEIR_BIN:-${O:-build}/pgweir}
home='' pg='' weir=''

say() { printf '%s\n' "$*"; }

# Stops a child: a polite signal, then after some time the next one.
stop() {
    local pid=$1 signal n
    shift
    for signal; do
        kill "-$signal" "$pid" 2>/dev/null || break
        for n in $(seq 30); do
            kill -0 "$pid" 2>/dev/null || break 2
            sleep 0.1
        done
    done
    wait "$pid" 2>/dev/null || true
}
finish() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "$weir" ] || stop "$weir" INT INT QUIT KILL
    [ -z "$pg" ] || stop "$pg" INT INT QUIT
    [ -z "$home" ] || rm -rf "$home"
    exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

home=$(mktemp -d "${TMPDIR:-/tmp}/pgweir-run.XXXXXX")
umask 077
user=${PGUSER:-$(id -un)}
if [ -n "${DATABASE:-}" ]; then
    upstream=$DATABASE behind="what DATABASE says"
elif [ -n "${PGHOST:-}" ]; then
    upstream="host=$PGHOST port=${PGPORT:-5432}" behind="$PGHOST:${PGPORT:-5432}"
else
    user=postgres behind="the scratch PostgreSQL"
    [ "$(id -u)" != 0 ] || chown postgres "$home"
    say "Starting a scratch PostgreSQL in $home/pg ..."
    "$scratch" init "$home/pg"
    "$scratch" run "$home/pg" &
    pg=$!
    "$scratch" wait "$home/pg"
    pgport=$("$scratch" env "$home/pg" | sed -n 's/^PGPORT=//p')
    upstream="host=$home/pg/sock port=$pgport"
fi

port=$(free_port "${PORT:-6432}")
status_port=$(free_port "${STATUS_PORT:-9432}")
auth=trust
[ -z "${PGPASSWORD:-}" ] || auth=scram-sha-256
quoted() { printf '"%s"' "${1//\"/\"\"}"; }
say "$(quoted "$user") $(quoted "${PGPASSWORD:-}")" >"$home/userlist.txt"
cat >"$home/pgweir.ini" <<INI
[databases]
* = $upstream

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir = $home
pool_mode = transaction
default_pool_size = 20
max_client_conn = 2000
auth_type = $auth
auth_file = $home/userlist.txt
admin_users = $user
INI
cat >"$home/own.ini" <<INI
[pgweir]
status_listen_addr = 127.0.0.1
status_port = $status_port
INI
# A copy, because the user PostgreSQL accepts may not be let into the folder of the tree.
install -m 755 "$bin" "$home/pgweir"
if [ "$(id -u)" = 0 ]; then
    id -u postgres >/dev/null 2>&1 && owner=postgres || owner=nobody
    chown -R "$owner" "$home"
    as=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")" --init-groups)
else
    as=()
fi
setsid "${as[@]}" setpriv --pdeathsig KILL "$home/pgweir" "$home/pgweir.ini" "$home/own.ini" \
    >"$home/pgweir.log" 2>&1 </dev/null &
weir=$!
for _ in $(seq 100); do
    [ ! -S "$home/.s.PGSQL.$port" ] || break
    kill -0 "$weir" 2>/dev/null || break
    sleep 0.1
done
if [ ! -S "$home/.s.PGSQL.$port" ]; then
    cat "$home/pgweir.log" >&2
    say "pgweir did not start." >&2
    exit 1
fi

say "pgweir is up, with $behind behind it."
say
say "  connect    psql 'postgresql://$user@127.0.0.1:$port/postgres'"
say "  load       pgbench -i 'postgresql://$user@127.0.0.1:$port/postgres' &&"
say "             pgbench -c 100 -T 30 'postgresql://$user@127.0.0.1:$port/postgres'"
say "  console    psql -h $home -p $port -U $user pgweir        (try: SHOW POOLS; SHOW CLASSES;)"
say "  status     http://127.0.0.1:$status_port/metrics  /healthz  /readyz"
say "  log        $home/pgweir.log"
say
say "Ctrl-C stops everything and removes $home."
# Returns when either child ends, which neither should; Ctrl-C ends the script by its trap.
wait -n "$weir" ${pg:+"$pg"} || true
say "A process ended by itself; the end of its log:" >&2
tail -n 20 "$home/pgweir.log" >&2
[ -z "$pg" ] || tail -n 5 "$home/pg/log" >&2
exit 1
