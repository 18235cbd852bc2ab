"""The probe: what it learns of a server, and what follows from it."""
import os
import re
import signal
import socket
from pathlib import Path

import psycopg

from it_tls import tls_postgres

from harness import case, holds, in_thread, refused, same, wait_until


def row(weir):
    rows = weir.console("SHOW UPSTREAMS")
    same(len(rows), 1, "upstreams")
    return rows[0]


def known(weir, seconds=10):
    """The row of an upstream whose role the probe has found."""
    return wait_until("the probe has looked", lambda: (
        row(weir) if row(weir)["role"] in ("primary", "standby") else None), seconds)


def probes_n(pg):
    return pg.value("SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = 'pgweir probe'")


def log_lines(weir, pattern):
    return [line for line in weir.log().splitlines() if re.search(pattern, line)]


@case(beyond="no probe")
def what_the_server_has_room_for_is_the_limit(t):
    weir = t.weir()
    with weir.connect() as client:
        client.execute("SELECT 1")
        found = known(weir)
        most = int(t.pg.value("SHOW max_connections")) - \
            int(t.pg.value("SHOW superuser_reserved_connections"))
        same(found["connections_max"], most, "connections_max")
        same(found["budget"], most - 1, "budget: all but the probe's own")
        same(found["role"], "primary", "role")
        same(found["probe_error"], None, "error of the probe")
        holds(found["rtt_us"] > 0, "a question takes time")
        same(probes_n(t.pg), 1, "connections of the probe")
        # two of us share it
        weir.write(instances=2)
        weir.console("RELOAD")
        wait_until("half of it", lambda: row(weir)["budget"] == most // 2 - 1)
        weir.write(max_upstream_connections=7)
        weir.console("RELOAD")
        wait_until("what is written rules", lambda: row(weir)["budget"] == 7)
    text = weir.status("/metrics")[1]
    holds(re.search(r'^pgweir_upstream_role\{.*\} 1$', text, re.M), "role in the metrics")
    holds(re.search(r'^pgweir_upstream_connections_max\{.*\} %d$' % most, text, re.M),
          "connections_max in the metrics")


@case(beyond="no probe")
def no_pool_loses_a_server_by_it(t):
    """As many servers as PostgreSQL has places for, less the probe's, are open at once."""
    pg = t.own_postgres(max_connections=16, superuser_reserved_connections=3).start()
    with pg.connect() as c:
        c.execute("CREATE ROLE app LOGIN")
    weir = t.weir(pg=pg, default_pool_size=20)
    first = weir.connect(user="app")
    same(known(weir)["budget"], 12, "budget")
    clients = [first] + [weir.connect(user="app") for _ in range(11)]
    for client in clients:
        client.autocommit = False
        client.execute("SELECT 1")
    same(pg.servers_n(), 12, "servers in transactions")
    same(log_lines(weir, "53300|too many clients|reserved for"), [], "refusals of PostgreSQL")


@case(beyond="no probe")
def who_is_alone_is_left_alone(t):
    weir = t.weir(probe_interval=0)
    with weir.connect() as client:
        client.execute("SELECT 1")
        same(wait_until("it says why", lambda: row(weir)["probe_error"]), "probe_interval is 0")
        same(probes_n(t.pg), 0, "connections of the probe")
    # PAUSE means that nobody is connected
    weir.write(probe_interval=1)
    weir.console("RELOAD")
    with weir.connect() as client:
        client.execute("SELECT 1")
        wait_until("the probe is there", lambda: probes_n(t.pg) == 1)
        weir.console("PAUSE")
        wait_until("the probe has left", lambda: probes_n(t.pg) == 0)
        weir.console("RESUME")
        wait_until("the probe is back", lambda: probes_n(t.pg) == 1)


@case(beyond="no probe")
def a_wrong_password_is_said_once(t):
    pg = t.own_postgres(log_connections="on").start()
    with pg.connect() as c:
        c.execute("SET password_encryption = 'scram-sha-256'; "
                  "CREATE ROLE u_scram LOGIN PASSWORD 'right'")
    weir = t.weir(pg=pg, probe_user="u_scram", probe_password="wrong")
    with weir.connect() as client:
        client.execute("SELECT 1")
        wait_until("it is said", lambda: log_lines(weir, "probe .*failed"))
        before = row(weir)["ticks"]
        wait_until("three more seconds of ticks", lambda: row(weir)["ticks"] > before + 30, 10)
        client.execute("SELECT 2")
        found = row(weir)
        same(len(log_lines(weir, "probe .*failed.*password")), 1, "lines in our log")
        same(pg.log().count("password authentication failed"), 1, "lines in PostgreSQL's log")
        same(found["error_breaker"], "closed", "error breaker")
        holds("password" in found["probe_error"], "SHOW UPSTREAMS says why")
        holds("wrong" not in weir.log(), "the password is not in the log")
        # the right one, after a RELOAD
        weir.write(probe_password="right")
        weir.console("RELOAD")
        same(known(weir)["probe_user"], "u_scram")
    holds("right" not in weir.status("/metrics")[1], "no password in the metrics")
    same([r["value"] for r in weir.console("SHOW CONFIG") if r["key"] == "probe_password"],
         ["****"], "password in SHOW CONFIG")


@case(beyond="no probe")
def a_counted_user_keeps_his_connections(t):
    pg = t.own_postgres().start()
    with pg.connect() as c:
        c.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 3")
    weir = t.weir(pg=pg, default_pool_size=3)
    clients = [weir.connect(user="app") for _ in range(3)]
    clients[0].execute("SELECT 1")
    wait_until("it says why", lambda: "counted" in (row(weir)["probe_error"] or ""))
    for client in clients:
        client.autocommit = False
        client.execute("SELECT 1")
    same(pg.servers_n(), 3, "servers")
    holds(row(weir)["budget"] > 0, "the limits were learnt nevertheless")


@case(beyond="no probe")
def it_keeps_to_server_tls_sslmode(t):
    pg, certificates = tls_postgres(t)
    for mode, tls in (("verify-full", True), ("disable", False)):
        weir = t.weir(pg=pg, server_tls_sslmode=mode,
                      server_tls_ca_file=certificates.path("ca.crt"),
                      databases={"*": f"host=localhost port={pg.port}"})
        with weir.connect() as client:
            client.execute("SELECT 1")
            known(weir)
            same(pg.value("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                          "WHERE application_name = 'pgweir probe'"), tls, f"TLS with {mode}")
        weir.check()
    weir = t.weir(pg=pg, server_tls_sslmode="verify-full",
                  server_tls_ca_file=certificates.path("stranger.crt"), query_wait_timeout=2,
                  databases={"*": f"host=localhost port={pg.port}"})
    refused(lambda: weir.connect(connect_timeout=5))
    wait_until("the probe does not trust it either",
               lambda: "certificate" in (row(weir)["probe_error"] or ""))


# ---- locks -------------------------------------------------------------------------------------


def pile_up(pg, weir):
    """Somebody holds a lock on the table; an ALTER TABLE from outside waits for it, and users wait
    for that. Returns (thread of the DDL, threads of the users)."""
    ddl = in_thread(alter, pg)
    wait_until("the DDL waits", lambda: pg.value(
        "SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
    users = []
    for _ in range(3):
        client = weir.connect(user="app")
        users.append(in_thread(lambda c=client: c.execute(
            "SELECT count(*) FROM book").fetchone()[0]))
    wait_until("the users wait", lambda: pg.value(
        "SELECT count(*) FROM pg_locks WHERE NOT granted") == 4)
    return ddl, users


def alter(pg):
    with pg.connect() as c:
        c.execute("ALTER TABLE book ADD COLUMN more int")
    return True


def library(t):
    pg = t.own_postgres().start()
    with pg.connect() as c:
        c.execute("CREATE ROLE app LOGIN; CREATE TABLE book AS SELECT i, repeat('x', 1000) AS t "
                  "FROM generate_series(1, 20000) i; GRANT SELECT ON book TO app")
    return pg


@case(beyond="no classes")
def users_that_wait_for_a_dumps_lock_unpace_it(t):
    pg = library(t)
    weir = t.weir(pg=pg)
    dump = weir.connect(application_name="pg_dump")
    dump.autocommit = False
    dump.execute("LOCK TABLE book IN ACCESS SHARE MODE")
    known(weir)
    ddl, users = pile_up(pg, weir)
    line = wait_until("it is said", lambda: log_lines(weir, "pacing inversion"), 10)[0]
    for word in ("action=unpace", "class=backup", "class=interactive", "postgres/app"):
        holds(word in line, f"“{word}” in “{line}”")
    wait_until("all who wait are seen", lambda: (
        row(weir)["inverted"], row(weir)["lock_waiters"]) == (1, 3))
    same(row(weir)["breaker"], "closed", "latency breaker: nobody is blamed")
    counts = {(r["class"], r["action"]): r["total"] for r in weir.console("SHOW INVERSIONS")}
    same(counts["backup", "unpace"], 1, "inversions")
    same(counts["backup", "cancel"], 0, "backups are not cancelled")
    holds(re.search(r'^pgweir_inversions_total\{.*class="backup",action="unpace"\} 1$',
                    weir.status("/metrics")[1], re.M), "inversions_total in the metrics")
    dump.execute("SELECT count(*) FROM book")
    dump.commit()
    same([user.get() for user in users], [20000] * 3, "what the users read")
    same(ddl.get(), True)
    wait_until("nobody waits any more", lambda: row(weir)["inverted"] == 0)


@case(beyond="no classes", seconds=120)
def a_paced_dump_hurries_while_users_wait_for_it(t):
    """20 MB at 100 kB a second would keep the users waiting for minutes."""
    pg = library(t)
    weir = t.weir(pg=pg, text="[class backup]\nbyte_rate = 100000\n", tcp_socket_buffer=65536)
    dump = weir.connect(application_name="pg_dump")
    known(weir)

    def copy():
        with dump.cursor().copy("COPY book TO STDOUT") as out:
            return sum(len(block) for block in out)

    copied = in_thread(copy)
    wait_until("it is paced", lambda: pg.value(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == 1, 20)
    ddl, users = pile_up(pg, weir)
    wait_until("it is let go", lambda: log_lines(weir, "action=unpace class=backup"), 10)
    same([user.get() for user in users], [20000] * 3, "what the users read")
    same(ddl.get(), True)
    holds(copied.get() > 20_000_000, "the dump is whole")
    same(log_lines(weir, "action=cancel"), [], "nothing was cancelled")


@case(beyond="no classes")
def bulk_that_users_wait_for_is_cancelled(t):
    pg = library(t)
    weir = t.weir(pg=pg, text="[class bulk]\nmatch = application_name:report\n"
                              "on_lock_inversion = cancel\n")
    report = weir.connect(application_name="report")
    known(weir)
    report.autocommit = False
    report.execute("SELECT count(*) FROM book")
    asleep = in_thread(lambda: report.execute("SELECT pg_sleep(50) FROM book LIMIT 1"))
    wait_until("the report runs", lambda: pg.running_n("pg_sleep") == 1)
    ddl, users = pile_up(pg, weir)
    wait_until("first its stream is let go", lambda: log_lines(weir, "action=unpace"), 10)
    wait_until("then it is cancelled", lambda: log_lines(weir, "action=cancel"), 10)
    refused(asleep.get, "57014")
    report.rollback()
    same([user.get() for user in users], [20000] * 3, "what the users read")
    same(ddl.get(), True)


@case(beyond="no classes")
def what_observes_only_says_what_it_would_do(t):
    pg = library(t)
    weir = t.weir(pg=pg, text="[class backup]\nbreaker = observe\n")
    dump = weir.connect(application_name="pg_dump")
    dump.autocommit = False
    dump.execute("LOCK TABLE book IN ACCESS SHARE MODE")
    known(weir)
    ddl, users = pile_up(pg, weir)
    line = wait_until("it is said", lambda: log_lines(weir, "pacing inversion"), 10)[0]
    holds("action=alert (only observed)" in line, line)
    dump.commit()
    same([user.get() for user in users], [20000] * 3, "what the users read")
    same(ddl.get(), True)


@case(beyond="no classes")
def a_pile_up_behind_a_stranger_blames_nobody(t):
    """Users wait for a lock of somebody who is not ours, while a dump is at work."""
    pg = library(t)
    weir = t.weir(pg=pg)
    dump = weir.connect(application_name="pg_dump")
    dump.autocommit = False
    dump.execute("SELECT 1")
    known(weir)
    with pg.connect() as stranger:
        stranger.autocommit = False
        stranger.execute("LOCK TABLE book")
        users = []
        for _ in range(4):
            client = weir.connect(user="app")
            users.append(in_thread(lambda c=client: c.execute(
                "SELECT count(*) FROM book").fetchone()[0]))
        wait_until("it is said", lambda: log_lines(weir, "lock pile-up .*most protected"), 15)
        wait_until("all who wait are seen", lambda: row(weir)["lock_waiters"] == 4)
        found = row(weir)
        same(found["inverted"], 0, "of ours that they wait for")
        same((found["breaker"], found["tests"]), ("closed", 0), "latency breaker")
        stranger.rollback()
    same([user.get() for user in users], [20000] * 4, "what the users read")
    wait_until("and its end", lambda: log_lines(weir, "lock pile-up .* is over"))
    same(log_lines(weir, "pacing inversion"), [], "inversions")
    dump.rollback()


# ---- servers that are ill ----------------------------------------------------------------------


def pids_of(pg):
    """The postmaster and all its children."""
    postmaster = int((pg.dir / "data" / "postmaster.pid").read_text().split()[0])
    pids = [postmaster]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == postmaster:
                pids.append(int(entry.name))
    return pids


@case(beyond="no probe", seconds=120)
def a_frozen_server_is_stalled_and_comes_back(t):
    pg = t.own_postgres().start()
    weir = t.weir(pg=pg)
    clients = [weir.connect() for _ in range(4)]
    asleep = [in_thread(lambda c=client: c.execute("SELECT pg_sleep(0.5)")) for client in clients]
    for one in asleep:
        one.get()
    known(weir)
    servers = pg.servers_n()
    frozen = pids_of(pg)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        answers = [in_thread(lambda c=c: c.execute("SELECT 7").fetchone()[0])
                   for c in clients[:3]]
        wait_until("it is stalled", lambda: row(weir)["stalled"] == 1, 30)
        holds(log_lines(weir, "is stalled: it accepts"), "an alert in the log")
        same(row(weir)["error_breaker"], "closed", "error breaker")
        same(row(weir)["breaker"], "closed", "latency breaker")
        late = in_thread(lambda: clients[3].execute("SELECT 8").fetchone()[0])
        wait_until("nothing new is sent", lambda: row(weir)["waiting"] == 1)
    finally:
        for pid in reversed(frozen):
            os.kill(pid, signal.SIGCONT)
    same([a.get() for a in answers], [7] * 3, "answers that were on their way")
    same(late.get(), 8, "the one that waited")
    wait_until("it is over", lambda: row(weir)["stalled"] == 0)
    same(row(weir)["died"], 0, "sessions lost")
    holds(pg.servers_n() <= servers + 1, "no flood of logins")
    same(row(weir)["tests"], 0, "experiments of the latency breaker")


@case(beyond="no error breaker", seconds=120, each={"tcp": False, "unix": True})
def a_restart_is_seen_by_the_probe(t, unix):
    pg = t.own_postgres().start()
    weir = t.weir(databases={"*": f"host={pg.sock if unix else '127.0.0.1'} port={pg.port}"})
    client = weir.connect()
    client.execute("SELECT 1")
    known(weir)
    pg.stop(signal.SIGINT)
    wait_until("the error breaker is open",
               lambda: row(weir)["error_breaker"] in ("open", "half_open"), 20)
    same(row(weir)["role"], "gone", "role")
    pg.start()
    wait_until("the probe's login closes it",
               lambda: row(weir)["error_breaker"] in ("ramp", "closed"), 20)
    same(known(weir)["role"], "primary", "role")
    same(weir.connect().execute("SELECT 3").fetchone()[0], 3)
    for change in ("from=primary to=gone", "from=gone to=primary"):
        wait_until(f"role {change} is said", lambda c=change: log_lines(weir, "role " + c))


@case(beyond="no probe")
def a_server_that_never_answers_blocks_nobody(t):
    """A socket that accepts and says nothing: the console stays quick, others are served."""
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(64)
    weir = t.weir(databases={"deaf": f"host=127.0.0.1 port={deaf.getsockname()[1]}",
                             "*": f"host=127.0.0.1 port={t.pg.port}"}, query_wait_timeout=30)
    stuck = in_thread(lambda: psycopg.connect(weir.dsn(dbname="deaf", connect_timeout=8)))

    def of_deaf():
        return [r for r in weir.console("SHOW UPSTREAMS") if r["port"] == deaf.getsockname()[1]]

    wait_until("the probe tries", lambda: of_deaf() and of_deaf()[0]["probe"] == "logs_in", 10)
    for _ in range(20):
        same(weir.value("SELECT 5"), 5)
        same(len(of_deaf()), 1)
    same(of_deaf()[0]["probe_up"], 0, "it is not in")
    refused(stuck.get)
    deaf.close()


@case(beyond="no probe")
def a_probe_query_is_run_while_users_are_few(t):
    weir = t.weir(probe_query="SELECT t FROM numbers WHERE i = 7")
    with weir.connect() as client:
        client.execute("SELECT 1")
        known(weir)
        wait_until("it fills the window", lambda: row(weir)["probe_asked"] > 30, 20)
        same(row(weir)["probe_error"], None, "error of the probe")
        weir.write(probe_query="SELECT nonsense")
        weir.console("RELOAD")
        wait_until("it is said", lambda: "nonsense" in (row(weir)["probe_error"] or ""))
        same(row(weir)["error_breaker"], "closed")
        wait_until("role and lag are asked for all the same",
                   lambda: row(weir)["role"] == "primary")
