"""Parts of bench.py about many: idle clients, idle pools, workers, clients that want the same."""
import os
import time

import lab
import raw
from gauge import Stub, flood, metric
from lab import say
from pair import CLIENTS_MAX, CPUS, POOL_N, ROUNDS, SECONDS, Pair, Result, both, cpu_us

IDLE_N = 500 if lab.QUICK else 10000
# Memory does not vary by chance, and ten thousand handshakes take this process half a minute.
IDLE_ROUNDS, IDLE_TLS_ROUNDS = min(ROUNDS, 3), min(ROUNDS, 2)
POOLS_N, USERS_N = (200, 2000) if lab.QUICK else (2000, 20000)
TWICE = "pgweir twice"
OF_ONE_ROW = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711"


# ---- clients that do nothing ---------------------------------------------------------------------


def part_idle(pg, out):
    """Memory of a client that does nothing: after its login, after a statement, and after all of
    them have asked at the same moment (what buffers were needed then may never come back)."""
    certificate = lab.Certificate("ec")
    try:
        for tls in (False, True):
            figures = [both() for _ in MOMENTS]
            for i in range(IDLE_TLS_ROUNDS if tls else IDLE_ROUNDS):
                pair = Pair(pg, out, **(certificate.settings() if tls else {}))
                try:
                    for _, which, pooler in pair.turns(1):
                        say(f"idle: {IDLE_N}{' by TLS' * tls}, {pooler.name}, round {i + 1}")
                        for figure, value in zip(figures, rss_per_client(pooler, tls)):
                            figure[which].append(value)
                finally:
                    pair.stop()
            for (moment, _), figure in zip(MOMENTS, figures):
                yield Result("memory", f"{IDLE_N} idle clients{' by TLS' * tls}, {moment}",
                             "bytes RSS/client", figure["theirs"], figure["ours"])
    finally:
        certificate.remove()


def ask_in_turn(clients):
    for sock in clients:
        raw.ask(sock)


def ask_at_once(clients):
    for sock in clients:
        raw.send_query(sock, "SELECT 1")
    for sock in clients:
        raw.read_until_ready(sock)


MOMENTS = (("logged in", lambda clients: None), ("after a statement", ask_in_turn),
           ("after all asked at once", ask_at_once))


def rss_per_client(pooler, tls):
    """Resident bytes a client, at each of the moments."""
    address = ("127.0.0.1", pooler.port) if tls else f"{pooler.sock}/.s.PGSQL.{pooler.port}"
    context = raw.tls_context() if tls else None
    clients = []

    def come(n):
        for _ in range(n):
            clients.append(raw.connect(address, context))
            raw.login(clients[-1])

    try:
        # the first hundred pay for the pool, its servers and the allocator's first chunks
        come(100)
        ask_in_turn(clients)
        time.sleep(0.3)
        before = lab.rss_kb(pooler.pid)
        come(IDLE_N)
        for _, act in MOMENTS:
            act(clients[100:])
            time.sleep(0.5)
            yield (lab.rss_kb(pooler.pid) - before) * 1024 / IDLE_N
    finally:
        for sock in clients:
            sock.close()


# ---- pools and users that do nothing -------------------------------------------------------------


def part_pools(pg, out):
    """Thousands of databases, each with a pool that has a server and no client, and ten times as
    many users: what they cost at the start, in memory, and those who work."""
    stub = Stub()
    few = pools_pooler(pg, out, lab.weir_path(), "pools-few")
    poolers = {"theirs": lambda: pools_pooler(pg, out, lab.pgbouncer_path(), "pools-pgbouncer",
                                              stub),
               "ours": lambda: pools_pooler(pg, out, lab.weir_path(), "pools-many", stub)}
    size = f"{POOLS_N} databases, {USERS_N} users"
    running = [few]
    try:
        start, memory = both(), both()
        for i in range(ROUNDS):
            for which, make in poolers.items():
                if which == "theirs" and start[which]:
                    continue  # it takes ten seconds, each time the same
                running.append(make())
                start[which].append(start_seconds(running[-1]))
                say(f"pools: {POOLS_N} in {running[-1].name}, round {i + 1}")
                memory[which].append(rss_with_pools(running[-1]))
                if which == "theirs" or i < ROUNDS - 1:
                    running.pop().stop()
        yield Result("pools", f"start, {size}", "s", start["theirs"], start["ours"])
        yield Result("pools", f"memory, {POOLS_N} idle pools, {USERS_N} users", "MB RSS",
                     memory["theirs"], memory["ours"])
        few.start(cpus=CPUS[1])
        yield pools_cpu(few, running[-1])
    finally:
        for pooler in running:
            pooler.stop()
        stub.stop()


def pools_pooler(pg, out, binary, name, stub=None):
    """With all those databases and users where it is given a stub for their servers."""
    lines = {lab.DATABASE: f"host=127.0.0.1 port={pg.port} dbname={lab.DATABASE}"}
    if stub:
        lines |= {f"idle{i}": f"host=127.0.0.1 port={stub.port} dbname=idle"
                  for i in range(POOLS_N)}
    pooler = lab.Pooler(out, binary, pg, name, databases=lines,
                        own={"workers": 1, "probe_interval": 0}, max_client_conn=CLIENTS_MAX,
                        default_pool_size=POOL_N)
    if stub:
        with open(pooler.dir / "users.txt", "a", encoding="ascii") as users:
            for i in range(USERS_N):  # a SCRAM secret has about this length
                users.write(f'"user{i}" "SCRAM-SHA-256$4096:{"c2FsdA==" * 3}${"a" * 43}=:'
                            f'{"b" * 43}="\n')
    return pooler


def start_seconds(pooler):
    begun = time.monotonic()
    pooler.start(cpus=CPUS[1])
    return time.monotonic() - begun


def rss_with_pools(pooler):
    """MB, when each of the pools has had a client and has kept its server."""
    address = f"{pooler.sock}/.s.PGSQL.{pooler.port}"
    for i in range(POOLS_N):
        sock = raw.connect(address)
        raw.login(sock, f"user{i}", f"idle{i}")
        raw.ask(sock)
        sock.close()
    time.sleep(0.5)
    return lab.rss_kb(pooler.pid) / 1024


def pools_cpu(few, many):
    say("pools: CPU")
    cpu = both()
    for i in range(ROUNDS):
        turn = [("theirs", few), ("ours", many)]
        for which, pooler in turn if i % 2 == 0 else reversed(turn):
            cpu[which].append(cpu_us(pooler, 16, unix=True))
    return Result("pools", f"CPU, {POOLS_N} idle pools and {USERS_N} users (right) beside none",
                  "us/transaction", cpu["theirs"], cpu["ours"], TWICE)


# ---- workers -------------------------------------------------------------------------------------


def part_workers(_, out):
    """One worker and two before a server that does no work. Proxy, stub and load share the machine,
    nobody is pinned; where they have to share cores, throughput says more about those than about
    the proxy, and transactions a CPU second of the proxy say what the second worker costs."""
    stub = Stub()
    common = {"max_client_conn": CLIENTS_MAX, "default_pool_size": POOL_N}
    arms = {0: lab.Pooler(out, lab.pgbouncer_path(), stub, "workers-pgbouncer", **common)}
    for n in (1, 2):
        arms[n] = lab.Pooler(out, lab.weir_path(), stub, f"workers-{n}",
                             own={"workers": n, "probe_interval": 0}, **common)
    figures = {n: [] for n in arms}
    try:
        for pooler in arms.values():
            pooler.start()
        for i in range(ROUNDS):
            for n, pooler in arms.items() if i % 2 == 0 else reversed(arms.items()):
                say(f"workers: {pooler.name}, round {i + 1}")
                figures[n].append(saturate(pooler))
    finally:
        for pooler in arms.values():
            pooler.stop()
        stub.stop()
    yield from workers_results(figures)


def saturate(pooler):
    """Sixty-four clients on twenty servers, as fast as they can: transactions a second and a CPU
    second of the proxy, servers moved between its loops for a hundred transactions."""
    def read():
        moves = metric(pooler, "pgweir_server_moves_total") if pooler.is_weir else 0
        return lab.cpu_ns(pooler.pid), moves

    span, (ns, moves) = flood(pooler, 64, SECONDS, read, cpus=None)
    return {"rate": span["answers"] / span["seconds"], "per CPU": span["answers"] / (ns / 1e9),
            "us": ns / 1000 / span["answers"], "moves": 100 * moves / span["answers"]}


def workers_results(figures):
    def of(n, name):
        return [figure[name] for figure in figures[n]]

    cores = f"{len(os.sched_getaffinity(0))} cores for proxy, stub and load"
    yield Result("workers", "CPU, one worker, stub server, unix 64", "us/transaction", of(0, "us"),
                 of(1, "us"))
    for name, unit in (("rate", "transactions/s"), ("per CPU", "transactions/CPU s")):
        yield Result("workers", "one worker, stub server, unix 64", unit, of(0, name), of(1, name),
                     cores, better="more")
        yield Result("workers", "two workers (right) beside one", unit, of(1, name), of(2, name),
                     f"{TWICE}; {cores}", better="more")
    yield Result("workers", "servers moved between loops, two workers", "% of transactions", [],
                 of(2, "moves"))


# ---- clients that want the same ------------------------------------------------------------------


def part_fairness(pg, out):
    """A thousand clients alike on twenty servers, each asking again when it is answered: all of
    them should wait alike."""
    clients = 200 if lab.QUICK else 1000
    pair = Pair(pg, out)
    wait = {name: both() for name in ("p50_us", "p99_us", "spread", "luck")}
    try:
        for i, which, pooler in pair.turns():
            say(f"fairness: {pooler.name}, round {i + 1}")
            span, _ = flood(pooler, clients, SECONDS, sql=OF_ONE_ROW)
            span["spread"] = span["p99_us"] / span["p50_us"]
            span["luck"] = span["most"] / max(span["least"], 1)
            for name, figure in wait.items():
                figure[which].append(span[name])
    finally:
        pair.stop()
    for name, what, unit, scale in (
            ("spread", "waiting time", "p99/p50", 1),
            ("luck", "answers of the luckiest by the unluckiest client", "most/least", 1),
            ("p50_us", "waiting time, p50", "ms", 1000),
            ("p99_us", "waiting time, p99", "ms", 1000)):
        yield Result("fairness", f"{clients} clients on {POOL_N} servers: {what}", unit,
                     *([value / scale for value in wait[name][w]] for w in ("theirs", "ours")))
