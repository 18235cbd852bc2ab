"""Several hosts of one database: a primary and two streaming standbys, and who is sent where."""
import shutil
import signal
import socket
import threading
import time

import psycopg

from harness import (PASSWORD, SCRATCH, Postgres, as_postgres, case, free_port, holds,
                     in_thread, output_of, refused, same, wait_until)


class Cluster:
    """A primary and its standbys, all of one case."""

    def __init__(self, t, standbys_n=2):
        self.t = t
        self.primary = t.own_postgres(max_connections=60, shared_buffers="16MB",
                                      wal_level="replica", hot_standby="on").start()
        with self.primary.connect() as c:
            c.execute("CREATE ROLE app LOGIN; CREATE ROLE dump LOGIN SUPERUSER")
            c.execute("GRANT ALL ON SCHEMA public TO public")
            c.execute("CREATE TABLE ledger (client int, n int)")
            c.execute("GRANT ALL ON ledger TO app")
        self.standbys = [self.standby(self.primary) for _ in range(standbys_n)]
        self.all = [self.primary, *self.standbys]

    def standby(self, of):
        """One more that follows `of`, by pg_basebackup -R."""
        pg = Postgres.__new__(Postgres)
        pg.dir = self.t.dir / f"pg{len(self.t.clusters)}"
        pg.bin, pg.process = of.bin, None
        output_of([SCRATCH, "init", pg.dir, "shared_buffers=16MB"])
        ours = (pg.dir / "data" / "postgresql.conf").read_text().splitlines()
        env = dict(line.split("=", 1) for line in
                   output_of([SCRATCH, "env", pg.dir])[1].splitlines())
        pg.port, pg.sock = int(env["PGPORT"]), env["PGSOCKET"]
        self.refill(pg, of, ours)
        self.t.clusters.append(pg)
        return pg.start()

    def refill(self, pg, of, settings=None):
        """pg's data is replaced by a copy of `of`, which it follows from now on."""
        data = pg.dir / "data"
        if settings is None:
            settings = (data / "postgresql.conf").read_text().splitlines()
        own = [line for line in settings
               if line.split(" ")[0] in ("port", "unix_socket_directories", "listen_addresses")]
        shutil.rmtree(data)
        output_of([*as_postgres(), of.bin / "pg_basebackup", "-h", "127.0.0.1", "-p", of.port,
                   "-U", "postgres", "-D", data, "-R", "-X", "stream", "-c", "fast", "-N"],
                  seconds=60)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write("\n".join(own) + "\n")

    def promote(self, pg):
        output_of([*as_postgres(), pg.bin / "pg_ctl", "-D", pg.dir / "data", "-w", "promote"])

    def line(self, *hosts, **params):
        """A [databases] line; hosts in this order."""
        hosts = hosts or self.all
        return " ".join([f"host={','.join(['127.0.0.1'] * len(hosts))}",
                         f"port={','.join(str(pg.port) for pg in hosts)}", "dbname=postgres",
                         *(f"{k}={v}" for k, v in params.items())])

    def weir(self, line, text="", **settings):
        return self.t.weir(databases={"db": line}, text=text,
                           userlist={"dump": ""}, query_wait_timeout=20, **settings)

    def caught_up(self):
        """All standbys have replayed what the primary has written."""
        lsn = self.primary.value("SELECT pg_current_wal_lsn()::text")
        for pg in self.standbys:
            wait_until("a standby has caught up", lambda p=pg: p.value(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn), 20)


def port_of(client):
    return client.execute("SELECT inet_server_port()").fetchone()[0]


def hosts(weir):
    return {row["port"]: row for row in weir.console("SHOW HOSTS")}


def told(weir, **roles):
    """Waits until each port has this role."""
    wanted = {int(port[1:]): role for port, role in roles.items()}
    wait_until(f"hosts are {wanted}", lambda: all(
        row["role"] == wanted[port] for port, row in hosts(weir).items()), 20)


# who finds out what a host is: the probe, or logins of pgweir's own where it has none
FINDERS = {"probed": {}, "scouted": {"probe_interval": 0}}
REPLICA = "[class backup]\nroute = replica\n"


@case(beyond="it knows no roles", seconds=120)
def writes_go_to_the_primary_whichever_order_hosts_have(t):
    c = Cluster(t)
    a, b = c.standbys
    orders = ((c.primary, a, b), (a, c.primary, b), (b, a, c.primary))
    weir = t.weir(databases={f"d{i}": c.line(*order, target_session_attrs=attrs)
                             for i, (order, attrs) in enumerate(zip(
                                 orders, ("primary", "read-write", "read-write")))})
    for i in range(len(orders)):
        client = weir.connect(dbname=f"d{i}")
        client.execute("INSERT INTO ledger VALUES (%s, 0)", (i,))
        same(port_of(client), c.primary.port, f"the host of order {i}")
    same(c.primary.value("SELECT count(*) FROM ledger"), len(orders), "rows")
    roles = {row["port"]: row["role"] for row in weir.console("SHOW HOSTS")}
    same(roles, {c.primary.port: "primary", a.port: "standby", b.port: "standby"}, "roles")
    for pg in (a, b):  # nobody but the probes was ever there
        same(pg.value("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'ledger' "
                      "AND application_name <> 'direct'"), 0, "statements on a standby")


@case(beyond="it knows no roles", seconds=120)
def other_targets_mean_what_libpq_means(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    c.primary.value("SELECT pg_switch_wal()::text")
    weir = t.weir(databases={name: c.line(target_session_attrs=name) for name in
                             ("standby", "read-only", "prefer-standby", "primary", "read-write")})
    for name, pg in (("standby", standby), ("read-only", standby), ("prefer-standby", standby),
                     ("primary", c.primary), ("read-write", c.primary)):
        client = weir.connect(dbname=name)
        wait_until(f"{name} is served by the right host",
                   lambda cl=client, p=pg: port_of(cl) == p.port, 10)
    refused(lambda: weir.connect(dbname="standby").execute("INSERT INTO ledger VALUES (9, 9)"),
            "25006", "read-only transaction")
    # the second choice, while the first is not to be had
    client = weir.connect(dbname="prefer-standby")
    same(port_of(client), standby.port, "host")
    standby.stop(signal.SIGQUIT)
    wait_until("it is served by the primary", lambda: serves_from(client) == c.primary.port, 20)
    standby.start()
    wait_until("it is back on the standby", lambda: serves_from(client) == standby.port, 20)


def serves_from(client):
    """The port, or None when a transaction was lost with its server."""
    try:
        return port_of(client)
    except psycopg.Error:
        if client.closed:
            raise
        return None


@case(beyond="it has no classes", seconds=120, each=FINDERS)
def a_backup_goes_to_a_replica_or_waits(t, finder):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"),
                  text=REPLICA + "queue_deadline = 3s\n", **finder)
    c.caught_up()
    user = weir.connect(dbname="db", user="app")
    same(port_of(user), c.primary.port, "the host of a user")
    dump = weir.connect(dbname="db", user="dump", application_name="pg_dump")
    same(port_of(dump), standby.port, "the host of a backup")
    status, out, _ = weir.tool("pg_dump", "-t", "ledger", database="db", user="dump")
    holds("CREATE TABLE public.ledger" in out, "the dump has the table")
    by_dump = ("SELECT count(*) FROM pg_stat_activity WHERE usename = 'dump' "
               "AND application_name <> 'direct'")
    same(c.primary.value(by_dump), 0, "connections of the backup's user on the primary")
    standby.stop()
    started = time.monotonic()
    said = refused(lambda: dump.execute("SELECT 1"), "57P03", "no host of database")
    holds(time.monotonic() - started >= 2, "it waited for its deadline")
    holds("replica" in said and "the primary" in said, f"it is told what each host is: {said}")
    same(dump.closed, False, "closed")
    refused(lambda: weir.connect(dbname="db", user="dump", application_name="pg_dump").execute(
        "SELECT 1"), "57P03")
    same(c.primary.value(by_dump), 0, "connections of the backup's user on the primary")
    same(port_of(user), c.primary.port, "the user is served all the while")
    standby.start()
    # after an outage a server is not given to bulk at once
    wait_until("the replica is back, and serves", lambda: serves_from(dump) == standby.port, 40)


@case(beyond="it has no classes", seconds=60, each=FINDERS)
def a_healthy_host_that_will_not_do_is_no_reason_to_wait_on(t, finder):
    c = Cluster(t, 0)
    nobody = free_port()
    weir = t.weir(databases={"db": c.line(target_session_attrs="standby"),
                             "two": f"host=127.0.0.1,127.0.0.1 port={c.primary.port},{nobody} "
                                    "dbname=postgres target_session_attrs=read-write"},
                  text=REPLICA + "queue_deadline = 2s\n", userlist={"dump": ""},
                  query_wait_timeout=2, **finder)
    refused(lambda: weir.connect(dbname="db", user="app"), "57P03", "no host of database")
    client = weir.connect(dbname="two", user="dump")
    same(port_of(client), c.primary.port, "the host of a user")
    client.execute("SET application_name = 'pg_dump'")  # from now on it wants a replica
    refused(lambda: client.execute("SELECT 1"), "57P03", "no host of database")


@case(beyond="it has no upstreams to show", seconds=60)
def a_line_that_moves_to_another_host_takes_its_clients_along(t):
    """The operator's own fail-over: another port in the file, and RELOAD."""
    old, new = Cluster(t, 0).primary, Cluster(t, 0).primary
    weir = t.weir(databases={"db": f"host=127.0.0.1 port={old.port} dbname=postgres"})
    client, another = (weir.connect(dbname="db", user="app") for _ in range(2))
    same(port_of(client), old.port, "the host at first")
    weir.databases["db"] = f"host=127.0.0.1 port={new.port} dbname=postgres"
    weir.write()
    weir.console("RELOAD")
    old.stop()
    client.execute("BEGIN")
    same(port_of(another), new.port, "the host of one that needs a second server")
    same(port_of(weir.connect(dbname="db", user="app")), new.port, "a new client's host")
    # nobody is left where the line does not lead: what is found out there concerns nobody
    (pool,) = [row for row in weir.console("SHOW POOLS")
               if row["database"] == "db" and row["cl_active"] + row["cl_waiting"] > 0]
    (upstream,) = [row for row in weir.console("SHOW UPSTREAMS") if row["port"] == new.port]
    same((pool["upstream_port"], upstream["servers"] >= 2), (new.port, True), "upstream")


@case(beyond="it has no classes", seconds=120)
def a_parallel_dump_stays_on_one_replica(t):
    c = Cluster(t)
    users = [f"dump{i}" for i in range(4)]
    with c.primary.connect() as direct:
        for i, user in enumerate(users):
            direct.execute(f"CREATE ROLE {user} LOGIN SUPERUSER")
            direct.execute(f"CREATE TABLE part{i} AS SELECT generate_series(1, 1000) n")
    c.caught_up()
    weir = t.weir(databases={"db": c.line(target_session_attrs="read-write")}, text=REPLICA,
                  userlist={user: "" for user in users}, query_wait_timeout=20)
    absent, present = c.standbys
    same(port_of(weir.connect(dbname="db", user="dump0")), c.primary.port, "the host of a user")
    absent.stop()
    told(weir, **{f"p{c.primary.port}": "primary", f"p{absent.port}": "gone",
                  f"p{present.port}": "standby"})
    leaders = {}
    for user in users:  # each begins on the only replica there is, and has a snapshot there
        leaders[user] = weir.connect(dbname="db", user=user, application_name="pg_dump",
                                     autocommit=False)
        same(port_of(leaders[user]), present.port, "the host of a leader")
    absent.start()
    told(weir, **{f"p{c.primary.port}": "primary", f"p{absent.port}": "standby",
                  f"p{present.port}": "standby"})
    for user in users:
        for _ in range(3):
            same(port_of(weir.connect(dbname="db", user=user, application_name="pg_dump")),
                 present.port, "the host of a worker")
        leaders[user].rollback()
    for user in users:
        weir.tool("pg_dump", "-j", "4", "-Fd", "-f", t.dir / user, database="db", user=user)
        holds((t.dir / user / "toc.dat").exists(), "the dump is whole")
    same(c.primary.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                         "'pg_dump'"), 0, "servers of the jobs on the primary")


@case(beyond="it has no classes", seconds=90)
def a_backup_falls_back_to_the_primary_where_it_may(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"),
                  text=REPLICA + "route_fallback = primary\n")
    c.caught_up()
    dump = weir.connect(dbname="db", user="dump", application_name="pg_dump")
    wait_until("it is on the replica", lambda: port_of(dump) == standby.port, 10)
    standby.stop()
    wait_until("it is served by the primary", lambda: serves_from(dump) == c.primary.port, 20)
    standby.start()
    wait_until("it is back on the replica", lambda: serves_from(dump) == standby.port, 20)
    reasons = {row["reason"]: row["reroutes"] for row in weir.console("SHOW REROUTES")}
    holds(reasons["down"] > 0 and reasons["better"] > 0, f"reasons are told: {reasons}")


@case(beyond="it has no classes", seconds=120, each=FINDERS)
def a_standby_that_lags_is_no_replica(t, finder):
    c = Cluster(t)
    slow, other = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"), text=REPLICA + "max_lag = 1s\n",
                  **finder)
    with c.primary.connect() as direct:
        direct.execute("INSERT INTO ledger VALUES (0, 0)")  # the last transaction all have
        c.caught_up()
        slow.value("SELECT pg_wal_replay_pause()::text")
        direct.execute("INSERT INTO ledger VALUES (1, 1)")
    dump = weir.connect(dbname="db", user="dump", application_name="pg_dump")
    wait_until("its lag is over the bound",
               lambda: (hosts(weir)[slow.port]["lag_us"] or 0) > 1500000, 20)
    wait_until("it serves no backup",
               lambda: "backup" not in (hosts(weir)[slow.port]["serves"] or ""), 10)
    for _ in range(5):
        same(port_of(dump), other.port, "the host of a backup")
        same(port_of(weir.connect(dbname="db", user="dump", application_name="pg_dump")),
             other.port, "the host of another backup")
    slow.value("SELECT pg_wal_replay_resume()::text")
    wait_until("it serves backups again",
               lambda: "backup" in (hosts(weir)[slow.port]["serves"] or ""), 20)


class Writers:
    """Clients that insert all the time; what each was told was committed."""

    def __init__(self, weir, n):
        self.weir, self.stop = weir, threading.Event()
        self.done = [[] for _ in range(n)]
        self.lost, self.errors, self.closed = [0] * n, [], 0
        self.longest = 0.0
        self.threads = [in_thread(self.write, i) for i in range(n)]

    def write(self, i):
        client = self.weir.connect(dbname="db", user="app")
        n = 0
        while not self.stop.is_set():
            started = time.monotonic()
            try:
                client.execute("INSERT INTO ledger VALUES (%s, %s)", (i, n))
                self.done[i].append(n)
            except psycopg.Error as error:
                if client.closed:
                    self.closed += 1
                    raise
                self.lost[i] += 1
                self.errors.append(str(error))
            self.longest = max(self.longest, time.monotonic() - started)
            n += 1
            time.sleep(0.002)

    def served(self):
        return sum(map(len, self.done))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.get(40)


@case(beyond="its clients stay with a dead primary", seconds=180, each=FINDERS)
def users_follow_the_primary(t, finder):
    c = Cluster(t)
    heir, other = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"), default_pool_size=4, **finder)
    writers = Writers(weir, t.sized(12, 6))
    wait_until("they write", lambda: writers.served() > 100, 20)
    c.caught_up()
    c.primary.stop(signal.SIGQUIT)
    before = writers.served()
    time.sleep(1)  # they wait: nobody takes writes
    c.promote(heir)
    wait_until("the new primary serves", lambda: writers.served() > before + 100, 30)
    told(weir, **{f"p{c.primary.port}": "gone", f"p{heir.port}": "primary",
                  f"p{other.port}": "standby"})
    # the old one comes back as a standby of the new one, and gets no writes
    c.refill(c.primary, heir)
    c.primary.start()
    told(weir, **{f"p{c.primary.port}": "standby", f"p{heir.port}": "primary",
                  f"p{other.port}": "standby"})
    at = writers.served()
    wait_until("they still write", lambda: writers.served() > at + 100, 20)
    writers.end()
    same(writers.closed, 0, "connections lost")
    # what was in flight when the primary died, one statement a server, may be lost
    holds(sum(writers.lost) <= 4, f"errors: {writers.errors}")
    holds(not any("read-only" in text for text in writers.errors), "no write reached a standby")
    holds(writers.longest < 20, f"longest wait {writers.longest:.1f} s")
    with heir.connect() as direct:
        rows = set(direct.execute("SELECT client, n FROM ledger").fetchall())
    wanted = {(i, n) for i, ns in enumerate(writers.done) for n in ns}
    t.note(f"{len(wanted)} writes, {sum(writers.lost)} lost in flight, "
           f"longest wait {writers.longest:.1f} s, {len(wanted - rows)} not replicated")
    # replication is asynchronous: what it had not sent when it was killed is gone, not more
    holds(len(wanted - rows) <= 50, f"{len(wanted - rows)} of {len(wanted)} committed rows gone")


@case(beyond="it knows no roles", seconds=120)
def a_second_primary_gets_no_writes(t):
    c = Cluster(t, 1)
    (heir,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"))
    client = weir.connect(dbname="db", user="app")
    same(port_of(client), c.primary.port, "host")
    c.caught_up()
    c.primary.stop(signal.SIGQUIT)
    c.promote(heir)
    wait_until("it is served by the new primary", lambda: serves_from(client) == heir.port, 20)
    c.primary.start()  # as if nothing had happened: a primary, too
    told(weir, **{f"p{c.primary.port}": "primary", f"p{heir.port}": "primary"})
    for _ in range(10):
        same(port_of(weir.connect(dbname="db", user="app")), heir.port, "a newcomer's host")
        same(port_of(client), heir.port, "host")
    row = hosts(weir)[c.primary.port]
    same((row["serves"], row["not_users"]), (None, "a second primary"), "what is told of it")
    wait_until("the log warns", lambda: "beside another one" in weir.log())


@case(beyond="it knows no roles", seconds=90)
def without_any_primary_clients_wait_and_are_told(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"))
    weir.write(query_wait_timeout=3)
    weir.console("RELOAD")
    client = weir.connect(dbname="db", user="app")
    same(port_of(client), c.primary.port, "host")
    c.primary.stop(signal.SIGQUIT)
    told(weir, **{f"p{c.primary.port}": "gone", f"p{standby.port}": "standby"})
    started = time.monotonic()
    said = refused(lambda: client.execute("SELECT 1"), "57P03", "no host of database")
    took = time.monotonic() - started
    holds(2.5 < took < 10, f"it waited {took:.1f} s")
    holds(f"{standby.port}: a standby" in said and f"{c.primary.port}: does not answer" in said,
          f"each host is named: {said}")
    same(client.closed, False, "closed")
    # one that is cancelled while it waits
    waiting = in_thread(lambda: refused(lambda: client.execute("SELECT 2"), "57014"))
    wait_until("it waits", lambda: any(row["state"] == "waiting" for row in
                                       weir.console("SHOW CLIENTS")))
    text = weir.status("/metrics")[1]
    holds("\npgweir_clients_without_host 1\n" in text, "/metrics counts it")
    client.cancel()
    waiting.get()
    c.promote(standby)
    wait_until("the new primary serves", lambda: weir.answers(dbname="db", user="app"), 20)
    same(port_of(client), standby.port, "the former client's host")
    holds("\npgweir_clients_without_host 0\n" in weir.status("/metrics")[1], "nobody waits now")
    for show in ("CLIENTS", "SERVERS"):
        seen = {row["upstream"] for row in weir.console(f"SHOW {show}")
                if row["database"] == "db"}
        same(seen, {f"127.0.0.1:{standby.port}"}, f"the host in SHOW {show}")


@case(beyond="it knows no roles", seconds=90)
def settings_and_statements_move_along(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"), max_prepared_statements=10)
    client = weir.connect(dbname="db", user="app")
    client.prepare_threshold = 0
    client.execute("SET work_mem = '7MB'")
    client.execute("SET application_name = 'traveller'")
    same(client.execute("SELECT %s::int + 1", (1,)).fetchone()[0], 2, "sum")
    c.caught_up()
    c.primary.stop(signal.SIGQUIT)
    c.promote(standby)
    wait_until("it is served there", lambda: serves_from(client) == standby.port, 20)
    same(client.execute("SHOW work_mem").fetchone()[0], "7MB", "work_mem")
    same(client.execute("SHOW application_name").fetchone()[0], "traveller", "application_name")
    same(client.execute("SELECT %s::int + 1", (2,)).fetchone()[0], 3, "sum")
    running = in_thread(lambda: refused(lambda: client.execute("SELECT pg_sleep(30)"), "57014"))
    wait_until("it runs", lambda: standby.running_n("pg_sleep"))
    client.cancel()
    running.get()


@case(beyond="it knows no roles", seconds=90)
def a_clients_own_proof_is_enough_to_look(t):
    """SCRAM on both sides, and no password anywhere but with the client."""
    c = Cluster(t, 1)
    (standby,) = c.standbys
    with c.primary.connect() as direct:
        direct.execute(f"CREATE ROLE u_scram LOGIN PASSWORD '{PASSWORD}'")
        secret = direct.execute("SELECT rolpassword FROM pg_authid "
                                "WHERE rolname = 'u_scram'").fetchone()[0]
    weir = t.weir(databases={"db": c.line(target_session_attrs="primary")},
                  auth_type="scram-sha-256", userlist={"u_scram": secret}, query_wait_timeout=20)
    client = weir.connect(dbname="db", user="u_scram", password=PASSWORD)
    same(port_of(client), c.primary.port, "host")
    c.caught_up()
    c.primary.stop(signal.SIGQUIT)
    c.promote(standby)
    wait_until("it is served by the new primary", lambda: serves_from(client) == standby.port, 20)


@case(beyond="it has no classes", seconds=90)
def a_base_backup_may_come_from_a_replica(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"), text=REPLICA)
    c.caught_up()
    replication = psycopg.conninfo.make_conninfo(
        host="127.0.0.1", port=weir.port, user="dump", dbname="db", replication="true",
        application_name="pg_basebackup", connect_timeout=15)
    done, out, err = output_of([standby.bin / "psql", "-XAtq", "-c", "SHOW port", replication],
                               check=False)
    same((done, out.strip()), (0, str(standby.port)), f"the WAL sender's port ({err})")


@case(beyond="it knows no roles", seconds=90)
def a_reload_names_other_hosts(t):
    c = Cluster(t, 1)
    (standby,) = c.standbys
    weir = c.weir(c.line(c.primary))
    client = weir.connect(dbname="db", user="app")
    same(port_of(client), c.primary.port, "host")
    weir.databases["db"] = c.line(target_session_attrs="standby")
    weir.write()
    weir.console("RELOAD")
    wait_until("it is on the standby", lambda: port_of(client) == standby.port, 10)
    weir.databases["db"] = c.line(c.primary)
    weir.write()
    weir.console("RELOAD")
    wait_until("it is where it was", lambda: port_of(client) == c.primary.port, 10)


@case(beyond="it knows no roles", seconds=90, each=FINDERS)
def a_paused_database_is_not_logged_in_to(t, finder):
    """Who pauses it may want to rename it, or to copy it: nobody may be there."""
    c = Cluster(t, 0)
    with c.primary.connect() as direct:
        direct.execute("CREATE DATABASE shop")
    weir = c.weir(c.line(c.primary, target_session_attrs="read-write").replace(
        "dbname=postgres", "dbname=shop"), **finder)
    client = weir.connect(dbname="db", user="app")
    same(port_of(client), c.primary.port, "host")
    weir.console("PAUSE db")
    logins = "SELECT sessions FROM pg_stat_database WHERE datname = 'shop'"
    wait_until("nobody is there", lambda: c.primary.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'") == 0)
    before = c.primary.value(logins)
    time.sleep(5)  # a scout would come every two seconds
    same(c.primary.value(logins), before, "logins to a database that is paused")
    weir.console("RESUME db")
    same(port_of(client), c.primary.port, "host")


@case(beyond="it knows no roles", seconds=90)
def a_host_that_is_away_for_long_is_not_hammered(t):
    c = Cluster(t, 0)
    with socket.socket() as door:  # takes connections, and ends them
        door.bind(("127.0.0.1", 0))
        door.listen(64)
        knocks = []

        def turn_away():
            while True:
                try:
                    door.accept()[0].close()
                except OSError:
                    return
                knocks.append(time.monotonic())

        threading.Thread(target=turn_away, daemon=True).start()
        weir = t.weir(databases={"db": f"host=127.0.0.1,127.0.0.1 port={c.primary.port},"
                                       f"{door.getsockname()[1]} dbname=postgres "
                                       "target_session_attrs=read-write"}, probe_interval=0)
        client = weir.connect(dbname="db", user="app")
        same(port_of(client), c.primary.port, "host")
        wait_until("it has been looked for often", lambda: len(knocks) >= 15, 30)
        time.sleep(1)
        at = len(knocks)
        time.sleep(6)
        holds(len(knocks) - at <= 5, f"{len(knocks) - at} logins in 6 s")
        door.shutdown(socket.SHUT_RDWR)


@case(beyond="it knows no roles", seconds=90)
def a_primary_that_was_dropped_is_not_the_elder_one_again(t):
    c = Cluster(t, 1)
    (heir,) = c.standbys
    weir = c.weir(c.line(target_session_attrs="read-write"))
    client = weir.connect(dbname="db", user="app")
    same(port_of(client), c.primary.port, "host")
    c.caught_up()
    c.promote(heir)  # two primaries, until the operator drops the old one
    weir.databases["db"] = c.line(heir, target_session_attrs="read-write")
    weir.write()
    weir.console("RELOAD")
    wait_until("it is served by the new primary", lambda: serves_from(client) == heir.port, 20)
    weir.databases["db"] = c.line(target_session_attrs="read-write")
    weir.write()
    weir.console("RELOAD")
    for _ in range(15):
        same(port_of(client), heir.port, "host")
        same(port_of(weir.connect(dbname="db", user="app")), heir.port, "a newcomer's host")
        time.sleep(0.1)
    wait_until("the log warns", lambda: "beside another one" in weir.log())


@case(beyond="it has no probe", seconds=90)
def all_hosts_are_looked_at_however_many_pools_there_are(t):
    c = Cluster(t, 0)
    lines_n, dead = t.sized(70, 66), [free_port(), free_port()]
    many = {f"d{i}": f"host=127.0.0.1,127.0.0.1 port={c.primary.port},{dead[0]} dbname=postgres "
                     "target_session_attrs=read-write min_pool_size=0" for i in range(lines_n)}
    weir = t.weir(databases={**many, "last": f"host=127.0.0.1,127.0.0.1 "
                             f"port={c.primary.port},{dead[1]} dbname=postgres "
                             "target_session_attrs=read-write"}, server_idle_timeout=1)
    clients = []
    for name in [*many, "last"]:
        clients.append(weir.connect(dbname=name, user="app"))
        same(port_of(clients[-1]), c.primary.port, "host")
    wait_until("the last one's other host is looked at", lambda: [
        row for row in weir.console("SHOW UPSTREAMS") if row["port"] == dead[1]
        and row["probe_failed"] > 0], 10)


@case(beyond="it knows no roles")
def nonsense_about_hosts_is_told(t):
    weir = t.weir(start=False, databases={"a": "host=x,y,z port=1,2"})
    done, out, _ = output_of([t.binary, "--check", weir.ini], check=False)
    holds(done != 0 and "port: one for all hosts" in out, f"ports: {out}")
    weir.databases = {"a": "host=x target_session_attrs=writer"}
    weir.write()
    done, out, _ = output_of([t.binary, "--check", weir.ini], check=False)
    holds(done != 0 and "target_session_attrs" in out, f"attrs: {out}")
    weir.databases, weir.text = {"a": "host=x"}, REPLICA
    weir.write()
    done, out, _ = output_of([t.binary, "--check", weir.ini], check=False)
    holds(done == 0 and "route = replica has no effect" in out, f"one host: {out}")
    weir.databases = {"a": "host=x,y"}
    weir.write()
    done, out, _ = output_of([t.binary, "--check", weir.ini], check=False)
    holds(done == 0 and "target_session_attrs=read-write" in out, f"no attrs: {out}")
