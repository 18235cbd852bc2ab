"""psql and pgbench through pgweir: what everybody tries first, and what must never fail."""
import re
import threading

import psycopg

from harness import Failed, Skip, case, holds, in_thread, same, wait_until


@case()
def psql_over_tcp_and_unix(t):
    weir = t.weir()
    for unix in (False, True):
        _, out, _ = weir.psql("SELECT 1; SELECT 'two'; SELECT sum(i) FROM numbers", unix=unix)
        same(out, "1\ntwo\n500500\n", f"psql, unix={unix}")


@case()
def psql_transaction_copy_and_error(t):
    weir = t.weir()
    script = ("BEGIN; CREATE TABLE psql_t (i int); \\copy psql_t FROM pstdin\n1\n2\n3\n\\.\n"
              "SELECT sum(i) FROM psql_t; \\copy psql_t TO pstdout\nROLLBACK; SELECT 'end';\n")
    same(weir.psql(script)[1], "6\n1\n2\n3\nend\n", "script")
    status, _, said = weir.psql("SELECT 1/0", check=False)
    same(status, 3, "exit status of psql")
    holds("division by zero" in said, said)


@case()
def many_result_sets_and_notices(t):
    client = t.weir().connect()
    notices = []
    client.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    cursor = client.execute("SELECT 1; SELECT 2; DO $$ BEGIN RAISE NOTICE 'heard'; END $$; "
                            "SELECT 3")
    results = []
    while True:
        if cursor.description:
            results.append(cursor.fetchone()[0])
        if not cursor.nextset():
            break
    same((results, notices), ([1, 2, 3], ["heard"]), "results and notices")
    same(client.execute("").statusmessage, None, "an empty query")


class Watch(threading.Thread):
    """The largest number of server connections PostgreSQL saw while pgbench ran."""

    def __init__(self, pg):
        super().__init__(daemon=True)
        self.pg, self.most, self.done = pg, 0, threading.Event()
        self.start()

    def run(self):
        with self.pg.connect() as direct:
            while not self.done.wait(0.05):
                self.most = max(self.most, direct.execute(self.pg.SERVERS).fetchone()[0])

    def end(self):
        self.done.set()
        self.join()
        return self.most


def longest_ms(directory):
    """The longest transaction in pgbench's own log."""
    times = [int(line.split()[2]) for path in directory.glob("pgbench_log.*")
             for line in path.read_text().splitlines()]
    return max(times) / 1000


MODES = {f"{mode},{clients}": (mode, clients)
         for mode in ("simple", "extended", "prepared") for clients in (1, 10, 100, 1000)}


@case(each=MODES, seconds=120)
def pgbench_on_20_servers(t, what):
    mode, clients = what
    if mode == "prepared" and not t.is_weir:
        raise Skip("beyond PgBouncer: 1.18 has no prepared statements in transaction mode")
    if clients == 1000 and not t.scale:
        clients = 300
    weir = t.weir(default_pool_size=20)
    t.dir.chmod(0o777)
    name = t.pg.database("bench") if not t.pg.value(
        "SELECT count(*) FROM pg_database WHERE datname = 'bench'") else "bench"
    if not t.pg.value("SELECT count(*) FROM pg_class WHERE relname = 'pgbench_accounts'",
                      dbname=name):
        weir.tool("pgbench", "-i", "-q", "-s", "2", name)
    watch = Watch(t.pg)
    # By count: time may be over before a thousand clients have logged in on a busy machine.
    each_n = max(10, min(3000, t.sized(10000, 2000) // clients))
    _, out, said = weir.tool("pgbench", "-n", "-S", "-M", mode, "-c", clients, "-j", 2, "-t",
                             each_n, "-l", f"--log-prefix={t.dir}/pgbench_log", name)
    most = watch.end()
    failed = re.search(r"failed transactions: (\d+)", out)
    same(failed and failed.group(1), "0", f"failed transactions: {said}")
    tps = re.search(r"tps = (\d+)", out).group(1)
    holds(not re.search(r"error|abort", said), said)
    holds(1 <= most <= 20, f"{most} server connections, 20 are allowed")
    longest = longest_ms(t.dir)
    t.note(f"{tps} tps, longest {longest:.0f} ms, {most} servers")
    holds(longest < (5000 if t.scale else 20000), f"a client waited {longest:.0f} ms")


@case(seconds=90)
def pgbench_writes_with_a_connection_per_transaction(t):
    weir = t.weir(default_pool_size=5)
    t.pg.database("bench_w")
    weir.tool("pgbench", "-i", "-q", "-s", "1", "bench_w")
    watch = Watch(t.pg)
    runs = t.sized(40, 10)
    _, out, said = weir.tool("pgbench", "-n", "-C", "-c", 8, "-j", 2, "-t", runs, "bench_w")
    holds(watch.end() <= 5 + 1, "more servers than the pool allows")
    holds(f"processed: {8 * runs}/{8 * runs}" in out, out + said)
    same(t.pg.value("SELECT sum(abalance)::bigint = (SELECT sum(bbalance) FROM pgbench_branches) "
                    "FROM pgbench_accounts", dbname="bench_w"), True, "the books balance")
    same(t.pg.value("SELECT count(*) FROM pgbench_history", dbname="bench_w"), 8 * runs, "history")


@case()
def two_databases_and_an_alias(t):
    t.pg.database("second")
    weir = t.weir(databases={
        "shop": f"host=127.0.0.1 port={t.pg.port} dbname=second",
        "forced": f"host={t.pg.sock} port={t.pg.port} dbname=postgres user=app",
        "*": f"host=127.0.0.1 port={t.pg.port}"})
    same(weir.value("SELECT current_database()", dbname="shop"), "second", "alias")
    same(weir.value("SELECT current_user::text", dbname="forced"), "app", "forced user")
    same(weir.value("SELECT current_database()"), "postgres", "the * line")


@case()
def unknown_database_is_refused_with_a_reason(t):
    weir = t.weir(databases={"only": f"host=127.0.0.1 port={t.pg.port} dbname=postgres"})
    same(weir.value("SELECT 1", dbname="only"), 1, "known")
    try:
        weir.value("SELECT 1", dbname="missing")
    except psycopg.OperationalError as error:
        holds("missing" in str(error), str(error))
    else:
        raise Failed("a database that stands nowhere was served")


@case()
def a_database_missing_on_the_server_does_not_hang(t):
    weir = t.weir()
    try:
        weir.value("SELECT 1", dbname="nowhere", connect_timeout=5)
    except psycopg.OperationalError as error:
        holds("does not exist" in str(error), str(error))
    else:
        raise Failed("a database that PostgreSQL lacks was served")
    same(weir.value("SELECT 1"), 1, "others go on")


@case()
def one_server_serves_many_clients_in_turn(t):
    weir = t.weir(default_pool_size=1)
    clients = [weir.connect() for _ in range(30)]
    pids = {client.execute("SELECT pg_backend_pid()").fetchone()[0]
            for _ in range(3) for client in clients}
    same(len(pids), 1, "number of servers")
    wait_until("SHOW POOLS counts 30 clients", lambda: weir.pool()["cl_active"] == 30)


@case(beyond="1.18 has no prepared statements in transaction mode", each={
    "extended": "extended", "prepared": "prepared"})
def pgbench_pipelines(t, mode):
    """libpq's pipeline mode: fifty statements before the first answer is read."""
    weir = t.weir(default_pool_size=3)
    script = t.dir / "pipeline.sql"
    script.write_text("\\startpipeline\n" + "".join(
        f"SELECT t FROM numbers WHERE i = {i};\n" for i in range(50)) + "\\endpipeline\n")
    _, out, said = weir.tool("pgbench", "-n", "-M", mode, "-c", 8, "-j", 2, "-t", t.sized(100, 20),
                             "-f", script)
    holds("failed transactions: 0 " in out and not re.search(r"error|abort", said), out + said)


@case()
def more_workers_than_processors(t):
    """Servers move between loops all the time: five clients in six loops share two."""
    weir = t.weir(default_pool_size=2, workers=6)

    def work(i):
        with psycopg.connect(weir.dsn(), prepare_threshold=None) as client:
            for n in range(t.sized(150, 30)):
                same(client.execute("SELECT %s::int, pg_sleep(0)", (n,)).fetchone()[0], n, "row")
                if n % 3:
                    client.commit()
                else:
                    client.rollback()
            return i

    threads = [in_thread(work, i) for i in range(12)]
    for i, thread in enumerate(threads):
        same(thread.get(50), i, "a client")
    holds(t.pg.servers_n() <= 2, "more servers than the pool allows")


@case(beyond="1.18 has no replication connections")
def replication_connections(t):
    weir = t.weir(default_pool_size=20)
    _, out, _ = weir.psql("IDENTIFY_SYSTEM", replication="database")
    holds(out.strip().endswith("|postgres"), f"logical: {out}")
    # Two connections at once: the base and the WAL meanwhile.
    weir.tool("pg_basebackup", "-D", t.dir / "base", "-c", "fast", "-X", "stream")
    holds((t.dir / "base" / "PG_VERSION").exists(), "no base backup")
    ends = [row for row in weir.console("SHOW ENDS") if row["class"] == "backup"]
    holds(sum(row["count"] for row in ends) >= 2, f"SHOW ENDS: {ends}")
