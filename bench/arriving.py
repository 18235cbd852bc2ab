"""Parts of bench.py about clients that come and go: logins."""
import time

import lab
from gauge import Pgbench
from lab import say
from pair import SECONDS, TRANSPORTS, Pair, Result, both


def part_login(pg, out):
    """Logins: pgbench that connects for each transaction. A SCRAM client hashes its password 4096
    times on a core of its own, so the rate is the client's; the proxy's cost is the CPU."""
    with lab.Session(pg.port) as control:
        secret = control.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    for auth in ("trust", "scram-sha-256"):
        pair = Pair(pg, out, auth_type=auth)
        for pooler in (pair.theirs, pair.ours):
            (pooler.dir / "users.txt").write_text(f'"app" "{secret}"\n"postgres" "postgres"\n')
            pooler.process.send_signal(1)  # SIGHUP: read it
        time.sleep(0.5)
        try:
            for transport in TRANSPORTS:
                yield from login_cell(pair, auth, transport)
        finally:
            pair.stop()


def login_cell(pair, auth, transport):
    say(f"login: {auth} {transport}")
    cost, rate = both(), both()
    for _, which, pooler in pair.turns():
        load = Pgbench(pooler.conninfo(unix=transport == "unix"), 8, "-C", seconds=SECONDS,
                       password="app")
        logins, seconds, ns = load.window(lambda p=pooler: lab.cpu_ns(p.pid))
        cost[which].append(ns / 1000 / logins)
        rate[which].append(logins / seconds)
    yield Result("login", f"{auth} {transport}", "us CPU/login", cost["theirs"], cost["ours"],
                 "with one SELECT")
    yield Result("login", f"{auth} {transport}", "logins/s", rate["theirs"], rate["ours"],
                 "with one SELECT", better="more")
