#!/usr/bin/env python3
"""pgweir beside PgBouncer, in the same run, by turns (A B A B ...), on the same PostgreSQL.

What is compared is what the proxy costs, not how long the machine took: CPU time of its process
from /proc/PID/task/*/schedstat (nanoseconds, no ticks), system calls, memory. A ratio is pgweir's
figure by PgBouncer's of the same round; the median of the rounds is given, and their range.

PostgreSQL and the load have one core, the proxy the other; one worker for all but the throughput
part, where nobody is pinned. Written to build/bench: result.md, result.csv.

Environment: BENCH_ROUNDS=n (5), BENCH_SECONDS=s (2), PARTS=a,b, QUICK=1, PGBOUNCER=path of another
PgBouncer, WEIR=path of another pgweir.
"""
import csv
import os
import platform
import shutil
import socket
import statistics
import struct
import sys
import time

sys.dont_write_bytecode = True  # all that is made lies in the build folder
import lab
from gauge import Pgbench, Syscalls, count_calls, instructions
from lab import say

ROUNDS = int(os.environ.get("BENCH_ROUNDS") or (1 if lab.QUICK else 5))
SECONDS = float(os.environ.get("BENCH_SECONDS") or (1 if lab.QUICK else 2))
CPUS = lab.split_cpus()
PROTOCOLS = ["simple", "extended", "prepared"]
CLIENTS = [16] if lab.QUICK else [1, 16, 64, 1000]
TRANSPORTS = ["tcp"] if lab.QUICK else ["tcp", "unix"]
IDLE_N = 500 if lab.QUICK else 5000
POOL_N = 20
SIGNALS_NOTE = "pgweir twice: signals off beside on"
SESSION_CLIENTS_MAX = 64  # PostgreSQL has 100 places; a session pool needs one for each client


class Result:
    """One line of the table: a figure of both, round by round."""

    def __init__(self, part, what, unit, theirs, ours, note="", better="less"):
        self.part, self.what, self.unit, self.note = part, what, unit, note
        self.theirs, self.ours, self.better = theirs, ours, better

    @staticmethod
    def spread(values, digits=2):
        if not values:
            return "-"
        middle = lab.median(values)
        digits = digits if middle < 100 else 0
        text = f"{middle:.{digits}f}"
        return text if len(values) < 2 else \
            f"{text} [{min(values):.{digits}f}-{max(values):.{digits}f}]"

    def ratios(self):
        return [o / t for o, t in zip(self.ours, self.theirs) if t]

    def row(self):
        return {"part": self.part, "what": self.what, "unit": self.unit,
                "pgbouncer": self.spread(self.theirs), "pgweir": self.spread(self.ours),
                "ratio": self.spread(self.ratios(), 3), "note": self.note}

    def csv_rows(self):
        for who, values in (("pgbouncer", self.theirs), ("pgweir", self.ours)):
            for i, value in enumerate(values):
                yield {"part": self.part, "what": self.what, "unit": self.unit, "who": who,
                       "round": i + 1, "value": f"{value:.6g}"}


# ---- the two -------------------------------------------------------------------------------------


def pgbouncer_prepares():
    """Whether this PgBouncer knows prepared statements in transaction mode (1.21 and later)."""
    version = lab.pgbouncer_version(lab.pgbouncer_path()).split()[-1].split(".")
    return (int(version[0]), int(version[1])) >= (1, 21)


# All that watches the traffic: nothing of it, and all of it.
SIGNALS = {
    "off": {"breaker": "off", "probe_interval": 0},
    "on": {"breaker": "enforce", "probe_interval": 1, "probe_query": "SELECT 1",
           "text": "[class interactive]\nslo_p99 = 100ms\n"}}


class Pair:
    """Both poolers, started with the same settings, pinned to the proxy's core."""

    def __init__(self, pg, out, theirs=None, workers=1, pinned=True, **settings):
        settings = {"max_client_conn": IDLE_N + 1000, "default_pool_size": POOL_N, **settings}
        cpus = CPUS[1] if pinned else None
        self.theirs = lab.Pooler(out, lab.pgbouncer_path(), pg, "pgbouncer",
                                 **{**settings, **(theirs or {})}).start(cpus=cpus)
        self.ours = lab.Pooler(out, lab.weir_path(), pg, "pgweir", own={"workers": workers},
                               **settings).start(cpus=cpus)

    @classmethod
    def of_signals(cls, pg, out):
        """pgweir twice: without its signals (as "theirs"), and with all of them."""
        pair = cls.__new__(cls)
        pair.theirs, pair.ours = (
            signals_pooler(pg, out, which).start(cpus=CPUS[1]) for which in ("off", "on"))
        return pair

    def turns(self, rounds=None):
        """(round, which, pooler), who goes first alternating, against whatever drifts."""
        for i in range(rounds or ROUNDS):
            both = [("theirs", self.theirs), ("ours", self.ours)]
            for which, pooler in both if i % 2 == 0 else reversed(both):
                yield i, which, pooler

    def stop(self):
        for pooler in (self.theirs, self.ours):
            status = pooler.stop()
            if status != 0 and pooler.is_weir:
                say(f"{pooler.name} ended with {status}: see {pooler.log_path}")


def signals_pooler(pg, out, which, **own):
    return lab.Pooler(out, lab.weir_path(), pg, f"signals-{which}",
                      own={"workers": 1, **SIGNALS[which], **own}, max_client_conn=1000,
                      default_pool_size=POOL_N)


def cells():
    for transport in TRANSPORTS:
        for clients in CLIENTS:
            yield transport, clients


# ---- the parts -----------------------------------------------------------------------------------


def part_select(pg, out):
    """CPU and system calls a transaction, select-only, by protocol, clients and transport."""
    counter = Syscalls()
    say(f"system calls are counted by {counter.tool}")
    for protocol in PROTOCOLS:
        session = protocol == "prepared" and not pgbouncer_prepares()
        theirs = {"pool_mode": "session", "default_pool_size": SESSION_CLIENTS_MAX} if session \
            else {"max_prepared_statements": 200} if protocol == "prepared" else {}
        pair = Pair(pg, out, theirs=theirs)
        try:
            for transport, clients in cells():
                alone = session and clients > SESSION_CLIENTS_MAX
                note = "PgBouncer: not possible" if alone else \
                    "PgBouncer in session mode" if session else ""
                yield from select_cell(pair, counter, (protocol, transport, clients), alone, note)
        finally:
            pair.stop()


def select_cell(pair, counter, cell, alone, note):
    protocol, transport, clients = cell
    what = f"{protocol} {transport} {clients}"
    say(f"select: {what}")
    cpu = {"theirs": [], "ours": []}
    calls = {"theirs": [], "ours": []}
    for i, which, pooler in pair.turns():
        if alone and which == "theirs":
            continue
        conninfo = pooler.conninfo(unix=transport == "unix")
        load = Pgbench(conninfo, clients, "-M", protocol, seconds=SECONDS)
        transactions, _, ns = load.window(lambda p=pooler: lab.cpu_ns(p.pid))
        cpu[which].append(ns / 1000 / transactions)
        if i == 0 and counter.tool:
            load = Pgbench(conninfo, clients, "-M", protocol, seconds=SECONDS)
            calls[which].append(count_calls(load, counter, pooler.pid))
    yield Result("CPU", what, "us/transaction", cpu["theirs"], cpu["ours"], note)
    yield Result("system calls", what, "per transaction", calls["theirs"], calls["ours"], note)


def part_copy(pg, out):
    """COPY out: bytes a CPU second of the proxy buys."""
    shapes = {"small rows (8 B)": "(TABLE small_rows)", "table rows (230 B)": lab.TABLES[0],
              "wide rows (8 kB)": "(TABLE wide_rows)"}
    with lab.Session(pg.port, user="app", database=lab.DATABASE) as control:
        control.ask("CREATE OR REPLACE VIEW small_rows AS "
                    "SELECT 1000000 + generate_series(1, 5000000) AS n")
        control.ask("CREATE OR REPLACE VIEW wide_rows AS "
                    "SELECT repeat('x', 8000) AS t FROM generate_series(1, 100000) i")
    pair = Pair(pg, out)
    try:
        for shape, source in shapes.items():
            for transport in TRANSPORTS:
                yield from copy_cell(pair, shape, source, transport)
    finally:
        pair.stop()


def copy_cell(pair, shape, source, transport):
    say(f"copy: {shape} {transport}")
    rate, cost = {"theirs": [], "ours": []}, {"theirs": [], "ours": []}
    for _, which, pooler in pair.turns():
        before = lab.cpu_ns(pooler.pid)
        bulk = lab.start(
            [lab.tool("bulk"), pooler.conninfo(unix=transport == "unix"), f"--tables={source}",
             "--readers=1", f"--seconds={SECONDS}", "--names=pgweir-bench"],
            cpus=CPUS[0], **lab.PIPES)
        span = lab.spans(bulk)[-1]
        if span["errors"] or not span["bytes"]:
            raise lab.Trouble(f"copy through {pooler.name}: {span['bytes']} bytes, "
                              f"errors {span['errors']}")
        cpu_s = (lab.cpu_ns(pooler.pid) - before) / 1e9
        rate[which].append(span["bytes"] / 1e6 / SECONDS)
        cost[which].append(span["bytes"] / 1e6 / cpu_s)
    what = f"{shape} {transport}"
    yield Result("COPY out", what, "MB per CPU second", cost["theirs"], cost["ours"],
                 better="more")
    yield Result("COPY out", what, "CPU s per GB", [1000 / v for v in cost["theirs"]],
                 [1000 / v for v in cost["ours"]])
    yield Result("COPY out", what, "MB/s", rate["theirs"], rate["ours"], "one core for the rest",
                 better="more")


def send_query(sock, query):
    sock.sendall(b"Q" + struct.pack("!I", len(query) + 5) + query.encode() + b"\0")


def idle_client(address, user, query):
    """A logged-in client without a byte of state in this process but its socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(20)
    sock.connect(address)
    body = struct.pack("!I", 196608) + b"".join(
        word.encode() + b"\0" for word in ("user", user, "database", lab.DATABASE, ""))
    sock.sendall(struct.pack("!I", len(body) + 4) + body)
    read_until_ready(sock)
    if query:
        send_query(sock, query)
        read_until_ready(sock)
    return sock


def read_until_ready(sock):
    """ReadyForQuery is the last thing a server says before it waits: Z, 5, a state."""
    seen = b""
    while not (len(seen) >= 6 and seen[-6:-1] == b"Z\0\0\0\5"):
        got = sock.recv(65536)
        if not got:
            raise lab.Trouble(f"a client was refused: {seen[-200:]!r}")
        seen += got


def part_idle(pg, out):
    """Memory of a client that does nothing: after its login, after a statement, and after all of
    them have asked at the same moment (what buffers were needed then may never come back)."""
    cases = (("logged in", None, False), ("after a statement", "SELECT 1", False),
             ("after all asked at once", None, True))
    for label, query, at_once in cases:
        figures = {"theirs": [], "ours": []}
        for i in range(1 if lab.QUICK else 3):
            pair = Pair(pg, out)
            try:
                for _, which, pooler in pair.turns(1):
                    say(f"idle: {IDLE_N} {label}, {pooler.name}, round {i + 1}")
                    figures[which].append(rss_per_client(pooler, query, at_once))
            finally:
                pair.stop()
        yield Result("memory", f"{IDLE_N} idle clients, {label}", "bytes RSS/client",
                     figures["theirs"], figures["ours"])


def rss_per_client(pooler, query, at_once):
    address = f"{pooler.sock}/.s.PGSQL.{pooler.port}"
    clients = []
    try:
        # the first hundred pay for the pool, its servers and the allocator's first chunks
        clients += [idle_client(address, "app", query or "SELECT 1") for _ in range(100)]
        time.sleep(0.3)
        before = lab.rss_kb(pooler.pid)
        clients += [idle_client(address, "app", query) for _ in range(IDLE_N)]
        if at_once:
            for sock in clients:
                send_query(sock, "SELECT 1")
            for sock in clients:
                read_until_ready(sock)
        time.sleep(0.5)
        return (lab.rss_kb(pooler.pid) - before) * 1024 / IDLE_N
    finally:
        for sock in clients:
            sock.close()


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
    cost, rate = {"theirs": [], "ours": []}, {"theirs": [], "ours": []}
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


def part_workers(pg, out):
    """What the second worker adds where nobody is pinned and all share the machine."""
    tps = {1: {"theirs": [], "ours": []}, 2: {"theirs": [], "ours": []}}
    pairs = {n: Pair(pg, out, workers=n, pinned=False) for n in tps}
    try:
        for i in range(ROUNDS):
            for n, pair in pairs.items():
                for _, which, pooler in pair.turns(1):
                    say(f"workers: {n}, {pooler.name}, round {i + 1}")
                    load = Pgbench(pooler.conninfo(unix=True), 64, "-M", "simple",
                                   seconds=SECONDS, pinned=False)
                    transactions, seconds, _ = load.window()
                    tps[n][which].append(transactions / seconds)
    finally:
        for pair in pairs.values():
            pair.stop()
    for n, both in tps.items():
        yield Result("throughput", f"pgweir with {n} worker{'s' * (n > 1)}, simple unix 64",
                     "transactions/s", both["theirs"], both["ours"], "nobody pinned",
                     better="more")
    yield Result("throughput", "pgweir: two workers (right) beside one", "transactions/s",
                 tps[1]["ours"], tps[2]["ours"], "nobody pinned", better="more")


def part_signals(pg, out):
    """What the breakers, the probe and an SLO cost: pgweir with all of them beside one with none.
    CPU time as everywhere; and instructions of the worker, which no neighbour can disturb."""
    pair = Pair.of_signals(pg, out)
    try:
        for protocol in PROTOCOLS:
            say(f"signals: CPU, {protocol}")
            cpu = {"theirs": [], "ours": []}
            for _, which, pooler in pair.turns(2 * ROUNDS - 1):
                load = Pgbench(pooler.conninfo(unix=True), 16, "-M", protocol, seconds=SECONDS)
                transactions, _, ns = load.window(lambda p=pooler: lab.cpu_ns(p.pid))
                cpu[which].append(ns / 1000 / transactions)
            yield Result("signals", f"CPU, {protocol}", "us/transaction", cpu["theirs"],
                         cpu["ours"], SIGNALS_NOTE)
    finally:
        pair.stop()
    if not shutil.which("valgrind"):
        say("no valgrind: instructions are not counted")
        return
    few, many = (200, 600) if lab.QUICK else (2000, 10000)
    for protocol in PROTOCOLS:
        say(f"signals: instructions, {protocol}")
        counts = []
        for which in ("off", "on"):
            counts.append([])
            for transactions in (few, many):
                pooler = signals_pooler(pg, out, which, io_uring=0)  # valgrind does not know it
                pooler.under = ["valgrind", "-q", "--tool=callgrind", "--separate-threads=yes",
                                f"--callgrind-out-file={pooler.dir}/callgrind.out"]
                counts[-1].append(instructions(pooler, pooler.conninfo(unix=True), protocol,
                                               transactions))
        off, on = ((b - a) / (many - few) for a, b in counts)
        yield Result("signals", f"instructions, {protocol}", "per transaction", [off], [on],
                     SIGNALS_NOTE)


PARTS = {"signals": part_signals, "select": part_select, "copy": part_copy, "idle": part_idle,
         "login": part_login, "workers": part_workers}


# ---- report ---------------------------------------------------------------------------------


def aims(results):
    """(aim, reached, figure) over all cells of a part."""
    def ratios(part, unit):
        found = [(lab.median(r.ratios()), r.what) for r in results
                 if r.part == part and r.unit == unit and r.ratios()]
        return found

    for part, unit, limit, text in (
            ("CPU", "us/transaction", 1.0, "CPU a transaction no more than PgBouncer's"),
            ("system calls", "per transaction", 1.0,
             "system calls a transaction no more than PgBouncer's")):
        found = ratios(part, unit)
        if found:
            worst, where = max(found)
            mean = statistics.geometric_mean(value for value, _ in found)
            yield text, worst <= limit, f"x{mean:.2f} on average, worst x{worst:.2f} ({where})"
    found = ratios("COPY out", "MB per CPU second")
    if found:
        worst, where = min(found)
        yield "COPY out: 3 times PgBouncer's MB a CPU second", worst >= 3.0, \
            f"worst x{worst:.2f} ({where})"
    for unit, text in (("us/transaction", "CPU a transaction"),
                       ("per transaction", "instructions a transaction")):
        found = ratios("signals", unit)
        if found:
            mean = statistics.geometric_mean(value for value, _ in found)
            worst, where = max(found)
            yield f"all signals cost at most 3 %: {text}", mean <= 1.03, \
                f"x{mean:.3f} on average, worst x{worst:.3f} ({where})"
    idle = [lab.median(r.ours) for r in results if r.part == "memory" and r.ours]
    if idle:
        yield "an idle client at most 1 KiB", max(idle) <= 1024, f"{max(idle):.0f} bytes"


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def markdown(results):
    rows = [r.row() for r in results]
    names = list(rows[0])
    widths = [max(len(n), *(len(r[n]) for r in rows)) for n in names]

    def line(cells_of):
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells_of, widths)) + " |"

    lines = [f"# pgweir beside {lab.pgbouncer_version(lab.pgbouncer_path())}", "",
             f"{machine()}; {ROUNDS} rounds of {SECONDS:g} s each, by turns. "
             "Median [range]; ratio: pgweir by PgBouncer, round by round.", "",
             line(names), line(["-" * w for w in widths])]
    lines += [line([r[n] for n in names]) for r in rows]
    lines += [""] + [f"- {'reached' if ok else '**not reached**'}: {aim} ({figure})"
                     for aim, ok, figure in aims(results)]
    return "\n".join(lines) + "\n"


def write(results, out):
    text = markdown(results)
    (out / "result.md").write_text(text, encoding="utf-8")
    with open(out / "result.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, ["part", "what", "unit", "who", "round", "value"])
        writer.writeheader()
        for result in results:
            writer.writerows(result.csv_rows())
    return text


def main():
    if lab.weir_path() is None:
        raise lab.Trouble("pgweir is not built: make")
    chosen = (os.environ.get("PARTS") or ",".join(PARTS)).split(",")
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise lab.Trouble(f"unknown parts: {unknown}; there are {', '.join(PARTS)}")
    lab.raise_descriptor_limit()
    out = lab.OUT / "bench"
    out.mkdir(parents=True, exist_ok=True)
    results = []
    pg = lab.open_cluster(CPUS[0])
    try:
        for part in chosen:
            results += list(PARTS[part](pg, out))
    finally:
        pg.stop()
    print(write(results, out))
    print(f"{out}: result.md, result.csv")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.Trouble as trouble:
        say(f"bench: {trouble}")
        sys.exit(2)
