"""Parts of bench.py about clients that stay and work: transactions, results, what watches them."""
import shutil

import lab
from gauge import Pgbench, Syscalls, count_calls, instructions
from lab import say
from pair import (CPUS, PROTOCOLS, ROUNDS, SECONDS, TRANSPORTS, Pair, Result, both, cpu_us,
                  signals_pooler)

# (transport, clients) by protocol; "A beside B": ours speaks A and PgBouncer B.
CELLS = {"simple": [("tcp", 1), ("tcp", 16), ("tcp", 1000), ("unix", 16), ("unix", 1000)],
         "extended": [("tcp", 16), ("unix", 16)],
         "prepared": [("tcp", 16), ("unix", 16)],
         "prepared beside simple": [("tcp", 16), ("unix", 16)]}
if lab.QUICK:
    CELLS = {**{protocol: [("tcp", 16)] for protocol in CELLS},
             "simple": [("tcp", 16), ("unix", 1000)]}
SIGNALS_NOTE = "pgweir twice: signals off beside on"
SESSION_POOL_N = 64  # a session needs a server of its own, and PostgreSQL has 100 places


def pgbouncer_prepares():
    """Whether this PgBouncer knows prepared statements in transaction mode (1.21 and later)."""
    version = lab.pgbouncer_version(lab.pgbouncer_path()).split()[-1].split(".")
    return (int(version[0]), int(version[1])) >= (1, 21)


def part_select(pg, out):
    """CPU and system calls a transaction, select-only, by protocol, clients and transport."""
    counter = Syscalls()
    say(f"system calls are counted by {counter.tool}")
    for protocol, cells in CELLS.items():
        session = protocol == "prepared" and not pgbouncer_prepares()
        theirs = {"pool_mode": "session", "default_pool_size": SESSION_POOL_N} if session \
            else {"max_prepared_statements": 200} if protocol == "prepared" else {}
        pair = Pair(pg, out, theirs=theirs)
        try:
            note = "PgBouncer in session mode" if session else ""
            for transport, clients in cells:
                yield from select_cell(pair, counter, (protocol, transport, clients), note)
        finally:
            pair.stop()


def select_cell(pair, counter, cell, note):
    protocol, transport, clients = cell
    what = f"{protocol} {transport} {clients}"
    say(f"select: {what}")
    spoken = dict(zip(("ours", "theirs"), protocol.split(" beside ") * 2))
    cpu, calls = both(), both()
    for i, which, pooler in pair.turns():
        unix = transport == "unix"
        cpu[which].append(cpu_us(pooler, clients, spoken[which], unix))
        if i == 0 and counter.tool:
            load = Pgbench(pooler.conninfo(unix=unix), clients, "-M", spoken[which],
                           seconds=SECONDS)
            calls[which].append(count_calls(load, counter, pooler.pid))
    yield Result("CPU", what, "us/transaction", cpu["theirs"], cpu["ours"], note)
    yield Result("system calls", what, "per transaction", calls["theirs"], calls["ours"], note)


def part_tls(pg, out):
    """CPU a transaction where clients speak TLS, of sessions that stay."""
    certificate = lab.Certificate()
    pair = Pair(pg, out, **certificate.settings())
    try:
        say("tls: simple, 16 clients")
        cpu = both()
        for _, which, pooler in pair.turns():
            cpu[which].append(cpu_us(pooler, 16, tls=True))
        yield Result("TLS", "CPU, simple tcp 16", "us/transaction", cpu["theirs"], cpu["ours"])
    finally:
        pair.stop()
        certificate.remove()


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
    rate, cost = both(), both()
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


def part_signals(pg, out):
    """What the breakers, the probe and an SLO cost: pgweir with all of them beside one with none.
    CPU time as everywhere; and instructions of the worker, which no neighbour can disturb."""
    pair = Pair.of_signals(pg, out)
    try:
        for protocol in PROTOCOLS:
            say(f"signals: CPU, {protocol}")
            cpu = both()
            for _, which, pooler in pair.turns(2 * ROUNDS - 1):
                cpu[which].append(cpu_us(pooler, 16, protocol, unix=True))
            yield Result("signals", f"CPU, {protocol}", "us/transaction", cpu["theirs"],
                         cpu["ours"], SIGNALS_NOTE)
    finally:
        pair.stop()
    if not shutil.which("valgrind"):
        say("no valgrind: instructions are not counted")
        return
    few, many = (200, 600) if lab.QUICK else (1000, 5000)
    for protocol in PROTOCOLS[:1] if lab.QUICK else PROTOCOLS:
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
