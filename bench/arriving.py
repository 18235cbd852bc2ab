"""Parts of bench.py about clients that come and go: logins, TLS handshakes."""
import time

import lab
import raw
from gauge import Pgbench
from lab import say
from pair import SECONDS, TRANSPORTS, Pair, Result, both

KEYS = ["ec"] if lab.QUICK else ["rsa", "ec"]


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


def part_handshake(pg, out):
    """A connection by TLS with one statement, by what the certificate's key is, and by whether the
    client brings the session of its last connection along."""
    for key in KEYS:
        certificate = lab.Certificate(key)
        pair = Pair(pg, out, **certificate.settings())
        try:
            for resumes in (False, True):
                yield handshake_cell(pair, key, resumes)
        finally:
            pair.stop()
            certificate.remove()


def handshake_cell(pair, key, resumes):
    what = f"{key} key, {'resumed' if resumes else 'from scratch'}"
    say(f"handshake: {what}")
    cost, resumed = both(), both()
    for _, which, pooler in pair.turns():
        us, share = knock(pooler, resumes)
        cost[which].append(us)
        resumed[which].append(share)
    note = "with one SELECT"
    if resumes:
        note += "; resumed: PgBouncer {:.0%}, pgweir {:.0%}".format(
            *(lab.median(resumed[which]) for which in ("theirs", "ours")))
    return Result("handshake", what, "us CPU/connection", cost["theirs"], cost["ours"], note)


def knock(pooler, resumes):
    """Connects over and over; CPU microseconds of the proxy for one, and the share of sessions that
    were resumed."""
    context, session = raw.tls_context(), None
    address = ("127.0.0.1", pooler.port)
    counted_n = resumed_n = 0
    before, end = None, time.monotonic() + SECONDS
    while before is None or time.monotonic() < end:
        sock = raw.connect(address, context, session)
        raw.login(sock)
        raw.ask(sock)
        if before is None:  # the first one pays for the server, and has nothing to resume
            before = lab.cpu_ns(pooler.pid)
        else:
            counted_n += 1
            resumed_n += sock.session_reused
        session = sock.session if resumes else None  # tickets came with what was read
        sock.sendall(b"X\0\0\0\4")
        sock.close()
    time.sleep(0.02)  # until the last one is seen off
    return (lab.cpu_ns(pooler.pid) - before) / 1000 / counted_n, resumed_n / counted_n
