"""Servers and clients that die at a bad moment, under load."""
import signal
import socket
import struct
import time

import psycopg

import raw
from harness import Failed, case, holds, in_thread, refused, same, wait_until


@case(beyond="its waiting clients notice")
def a_server_lost_while_idle_is_not_noticed(t):
    weir = t.weir(default_pool_size=3)
    client = weir.connect()
    for _ in range(5):
        client.execute("SELECT 1")
        pids = t.pg.value("SELECT array_agg(pid) FROM (SELECT pid, pg_terminate_backend(pid) "
                          "FROM pg_stat_activity WHERE backend_type = 'client backend' "
                          "AND application_name <> 'direct') x")
        wait_until("they are gone", lambda: not t.pg.value(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = any(%s)", pids))
        same(client.execute("SELECT 2").fetchone()[0], 2, "the next query")


@case(beyond="it disconnects the client")
def a_server_lost_in_a_transaction_is_an_error_only(t):
    weir = t.weir(default_pool_size=1)
    client = weir.connect(autocommit=False)
    pid = client.execute("SELECT pg_backend_pid()").fetchone()[0]
    t.pg.value("SELECT pg_terminate_backend(%s)", pid)
    wait_until("it is gone", lambda: t.pg.servers_n() == 0)
    refused(lambda: client.execute("SELECT 1"))
    same(client.closed, False, "closed")
    client.rollback()
    same(client.execute("SELECT 2").fetchone()[0], 2, "the same connection, a new transaction")
    client.commit()


@case(beyond="it disconnects the client")
def a_server_killed_in_mid_query_is_an_error_only(t):
    weir = t.weir(default_pool_size=1)
    client = weir.connect()
    running = in_thread(lambda: refused(lambda: client.execute("SELECT pg_sleep(30)"), "57P01"))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    t.pg.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
               "WHERE query ~ 'pg_sleep' AND application_name <> 'direct'")
    running.get()
    same(client.execute("SELECT 2").fetchone()[0], 2, "the same connection")


@case(seconds=90, beyond="clients between transactions are cut off")
def postgres_killed_and_restarted_under_load(t):
    pg = t.own_postgres()
    pg.start()
    with pg.connect() as direct:
        direct.execute("CREATE TABLE ledger (client int, n int)")
    weir = t.weir(pg=pg, default_pool_size=5, server_login_retry="0.3", query_wait_timeout=30)
    stop, lost, done = [], [], [0] * 8

    def work(i):
        with psycopg.connect(weir.dsn(), autocommit=True, prepare_threshold=None) as client:
            n = 0
            while not stop:
                try:
                    client.execute("INSERT INTO ledger VALUES (%s, %s)", (i, n))
                    done[i] += 1
                    n += 1
                except psycopg.Error as error:
                    lost.append((error.sqlstate, str(error)))
                    if client.closed:
                        raise Failed(f"client {i} was disconnected: {error}") from error
                    time.sleep(0.05)
            return n

    threads = [in_thread(work, i) for i in range(8)]
    wait_until("all are served", lambda: min(done) > 20, 20)
    for how in (signal.SIGQUIT, signal.SIGINT):
        pg.stop(how)
        time.sleep(0.5)
        pg.start()
        before = list(done)
        wait_until("all are served again", lambda b=before: all(
            x > y + 5 for x, y in zip(done, b)), 20)
    stop.append(True)
    for thread in threads:
        thread.get()
    t.note(f"{sum(done)} rows, {len(lost)} errors")
    # Only what was on its way in the moment of the kill may be lost: a query per server, each time.
    holds(len(lost) <= 2 * 8 * 3, f"{len(lost)} errors, such as {lost[:3]}")
    with pg.connect() as direct:
        rows = direct.execute("SELECT count(*) FROM ledger").fetchone()[0]
    holds(sum(done) <= rows <= sum(done) + len(lost), f"{rows} rows for {sum(done)} answers")


@case(seconds=60)
def new_clients_while_postgres_is_away(t):
    pg = t.own_postgres()
    weir = t.weir(pg=pg, query_wait_timeout=2, server_login_retry="0.3")
    began = time.monotonic()
    refused(lambda: weir.value("SELECT 1", connect_timeout=10))
    holds(time.monotonic() - began < 8, "a client hung on a dead server")
    pg.start()
    wait_until("service", weir.answers, 10)


@case(beyond="it leaves the query running (and closes the server)")
def a_client_killed_in_mid_query_takes_its_query_along(t):
    weir = t.weir(default_pool_size=1)
    with weir.connect() as client:
        pid = client.execute("SELECT pg_backend_pid()").fetchone()[0]
        for how in ("close", "reset", "terminate"):
            ghost = weir.raw()
            ghost.send(raw.query("SELECT pg_sleep(60)"))
            wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
            if how == "reset":
                ghost.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if how == "terminate":
                ghost.send(raw.terminate())
            ghost.close()
            wait_until(f"the query is cancelled after {how}",
                       lambda: t.pg.running_n("pg_sleep") == 0, 3)
            same(client.execute("SELECT pg_backend_pid()").fetchone()[0], pid,
                 f"server after {how} (kept)")


@case(seconds=60)
def clients_killed_at_any_moment(t):
    """Real processes, killed as the OOM killer would; the pool must stay whole."""
    weir = t.weir(default_pool_size=4)
    for round_i in range(t.sized(12, 4)):
        children = [t.spawn([t.pg.bin / "psql", "-XAtq", "-d", weir.dsn(), "-c",
                             "SELECT 1", "-c", "BEGIN", "-c", "SELECT pg_sleep(0.05)", "-c",
                             "COPY (SELECT * FROM generate_series(1, 100000)) TO STDOUT"],
                            stdout=-3, stderr=-3) for _ in range(6)]
        time.sleep(0.02 + 0.02 * (round_i % 6))
        for child in children:
            child.kill()
        for child in children:
            child.wait()
    same(weir.value("SELECT 1"), 1, "service")
    wait_until("no client is left", lambda: not weir.pool() or
               weir.pool()["cl_active"] + weir.pool()["cl_waiting"] == 0)
    wait_until("no server is busy", lambda: t.pg.running_n("COPY|pg_sleep") == 0)
    holds(t.pg.servers_n() <= 4, "more servers than the pool allows")
    threads = [in_thread(lambda: weir.value("SELECT 1, pg_sleep(0.2)")) for _ in range(8)]
    for thread in threads:
        same(thread.get(), 1, "the whole pool works")


@case(seconds=60, beyond="dead clients keep their place in the queue")
def a_storm_of_impatient_clients_does_not_outlast_its_cause(t):
    """Clients give up after 250 ms and come back; for 2 s each query takes 1 s."""
    weir = t.weir(default_pool_size=10)
    t.pg.database("storm")
    with weir.connect(dbname="storm") as client:
        client.execute("CREATE TABLE slow (s float); INSERT INTO slow VALUES (0.01)")
    stop, done = [], []

    def work():
        while not stop:
            try:
                with raw.Raw(weir.tcp, timeout=0.25, database="storm") as client:
                    while not stop:
                        client.query("SELECT pg_sleep(s) FROM slow")
                        done.append(time.monotonic())
            except (OSError, raw.Closed, raw.ServerError):
                pass

    def rate(seconds):
        began, n = time.monotonic(), len(done)
        time.sleep(seconds)
        return (len(done) - n) / (time.monotonic() - began)

    threads = [in_thread(work) for _ in range(30)]
    time.sleep(0.5)
    before = rate(1.5)
    with t.pg.connect("storm") as direct:
        direct.execute("UPDATE slow SET s = 1")
        during = rate(2)
        direct.execute("UPDATE slow SET s = 0.01")
    time.sleep(2)
    after = rate(1.5)
    stop.append(True)
    for thread in threads:
        thread.get()
    t.note(f"{before:.0f}/s before, {during:.0f}/s during, {after:.0f}/s 2 s after")
    holds(after > 0.8 * before, f"{after:.0f}/s after, {before:.0f}/s before")


@case(beyond="it has no breakers")
def clients_that_leave_in_mid_message_are_no_outage(t):
    """We close those servers ourselves: that says nothing of the database's health."""
    weir = t.weir(default_pool_size=4)
    keeper = weir.connect()
    keeper.execute("SELECT 1")
    cut = [weir.raw() for _ in range(3)]
    for client in cut:
        client.query("BEGIN")
        whole = raw.query(f"SELECT '{'x' * 200_000}'")
        client.send(whole[:150_000])  # more than is kept: its beginning is with the server
    wait_until("all have servers", lambda: weir.console("SHOW UPSTREAMS")[0]["leased"] == 3)
    for client in cut:
        client.sock.close()
    wait_until("all are closed", lambda: weir.console("SHOW UPSTREAMS")[0]["leased"] == 0)
    (upstream,) = weir.console("SHOW UPSTREAMS")
    same((upstream["died"], upstream["error_breaker"]), (0, "closed"), "died, breaker")
    same(keeper.execute("SELECT 2").fetchone()[0], 2, "answer")


@case(beyond="it drops the client")
def a_half_closed_client_gets_its_answer(t):
    weir = t.weir()
    with weir.raw() as client:
        client.send(raw.query("SELECT pg_sleep(0.3), 'answer'"))
        client.sock.shutdown(socket.SHUT_WR)
        got = client.until_closed(3)
        # Either the answer comes, or the query is given up for a client that has gone: no hang.
        holds(got is not None, "hangs")
        wait_until("nothing runs on", lambda: t.pg.running_n("pg_sleep") == 0, 3)
    same(weir.value("SELECT 1"), 1, "others")


@case()
def a_server_that_hangs_at_login_does_not_hang_the_rest(t):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(50)
        weir = t.weir(databases={"hole": f"host=127.0.0.1 port={hole.getsockname()[1]}",
                                 "*": f"host=127.0.0.1 port={t.pg.port}"},
                      server_connect_timeout=2, query_wait_timeout=2)
        stuck = [in_thread(lambda: refused(lambda: weir.value("SELECT 1", dbname="hole",
                                                              connect_timeout=20)))
                 for _ in range(5)]
        for i in range(50):
            same(weir.value("SELECT 1"), 1, "another database")
        for thread in stuck:
            thread.get(15)


@case(beyond="it stops accepting at the soft limit")
def the_soft_limit_of_descriptors_is_raised(t):
    weir = t.weir(prefix=["prlimit", "--nofile=100:4096"], max_client_conn=1000)
    clients = [weir.raw() for _ in range(300)]
    for client in clients[::50]:
        same(client.query("SELECT 1"), [["1"]], "a client")


@case(beyond="it stops accepting, and new clients hang")
def out_of_descriptors_is_an_error_for_newcomers_only(t):
    weir = t.weir(prefix=["prlimit", "--nofile=100:100"], max_client_conn=1000)
    with weir.connect() as old:
        old.execute("SELECT 1")
        flood = [raw.Raw(weir.tcp, login=False) for _ in range(150)]
        for i in range(20):
            same(old.execute("SELECT %s::int", (i,)).fetchone()[0], i, "a client inside")
        for client in flood:
            client.close()
        wait_until("service", weir.answers)
