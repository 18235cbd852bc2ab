"""Session and statement mode, limits, queues, and what a waiting client is told."""
import time

import psycopg

import raw
from harness import case, holds, in_thread, refused, same, wait_until


@case()
def session_mode_keeps_the_session(t):
    weir = t.weir(pool_mode="session", default_pool_size=1)
    with weir.connect() as client:
        client.execute("SET work_mem = '9MB'; CREATE TEMP TABLE mine (i int)")
        client.execute("PREPARE p AS SELECT 5; LISTEN gossip; SELECT pg_advisory_lock(1)")
        for _ in range(3):
            same(client.execute("SHOW work_mem").fetchone()[0], "9MB", "setting")
            same(client.execute("EXECUTE p").fetchone()[0], 5, "prepared")
            same(client.execute("SELECT count(*) FROM mine").fetchone()[0], 0, "temp table")
        pid = client.execute("SELECT pg_backend_pid()").fetchone()[0]
    with weir.connect() as client:
        same(client.execute("SELECT pg_backend_pid()").fetchone()[0], pid, "server (kept)")
        same(client.execute("SHOW work_mem").fetchone()[0], "4MB", "setting, reset")
        same(client.execute("SELECT to_regclass('mine')").fetchone()[0], None, "temp table, reset")
        same(client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0], 0,
             "names")
        same(client.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
             .fetchone()[0], 0, "locks")


@case()
def session_mode_queues_the_next_client(t):
    weir = t.weir(pool_mode="session", default_pool_size=1)
    first = weir.connect()
    first.execute("SELECT 1")
    second = in_thread(lambda: weir.value("SELECT 'second'"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    same(second.done(), False, "second got a server too early")
    first.close()
    same(second.get(), "second", "second")


@case()
def session_mode_protocol_level_prepared_statements(t):
    weir = t.weir(pool_mode="session", default_pool_size=2)
    with weir.raw() as client:
        client.kinds(raw.parse("s", "SELECT 7"), raw.sync())
        same(client.rows(raw.run_named("s")), [["7"]], "run")
        same(client.query("SELECT count(*) FROM pg_prepared_statements"), [["1"]], "on the server")


@case()
def statement_mode_refuses_transactions(t):
    weir = t.weir(pool_mode="statement", default_pool_size=1)
    client = weir.connect()
    same(client.execute("SELECT 1").fetchone()[0], 1, "statement")
    said = refused(lambda: (client.execute("BEGIN"), client.execute("SELECT 1")))
    holds("statement pooling" in said, said)
    same(weir.value("SELECT 2"), 2, "the pool goes on")
    with weir.raw() as other:
        other.send(raw.query("BEGIN"))
        said = other.until_closed()
        holds(said and b"statement pooling" in said and b"Z\0\0\0\x05T" not in said,
              f"the reason, and no ReadyForQuery: {said}")


@case()
def pool_mode_of_database_and_user(t):
    at = f"host=127.0.0.1 port={t.pg.port} dbname=postgres"
    weir = t.weir(databases={"s": f"{at} pool_mode=session", "*": at},
                  users={"app": "pool_mode=session"}, default_pool_size=1)
    with weir.connect(dbname="s") as client:
        client.execute("CREATE TEMP TABLE mine (i int)")
        same(client.execute("SELECT count(*) FROM mine").fetchone()[0], 0, "session by database")
    with weir.connect(dbname="x", user="app") as client:
        client.execute("CREATE TEMP TABLE mine (i int)")
        same(client.execute("SELECT count(*) FROM mine").fetchone()[0], 0, "session by user")


@case()
def query_wait_timeout_acts(t):
    weir = t.weir(default_pool_size=1, query_wait_timeout=1)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    began = time.monotonic()
    said = refused(lambda: weir.value("SELECT 1"))
    took = time.monotonic() - began
    holds("query_wait_timeout" in said, said)
    holds(0.9 < took < 2.5, f"after {took:.1f} s")
    same(weir.pool()["cl_waiting"], 0, "waiting")
    holder.commit()
    same(weir.value("SELECT 1"), 1, "afterwards")


@case(beyond="1.18 has no query_wait_notify")
def a_waiting_client_is_told_that_it_waits(t):
    weir = t.weir(default_pool_size=1, query_wait_notify=1)
    holder, client = weir.connect(autocommit=False), weir.connect()
    holder.execute("SELECT 1")
    notices = []
    client.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    waiting = in_thread(lambda: client.execute("SELECT 'in'").fetchone()[0])
    wait_until("a notice", lambda: notices, 4)
    holder.commit()
    same(waiting.get(), "in", "the query")


@case(beyond="it has no cap per address")
def max_address_connections_per_client_address(t):
    weir = t.weir(max_address_connections=2, default_pool_size=10, query_wait_timeout=20)
    threads = [in_thread(lambda: weir.value("SELECT 1, pg_sleep(0.2)")) for _ in range(8)]
    most = 0
    while not all(thread.done() for thread in threads):
        most = max(most, t.pg.running_n("pg_sleep"))
        same(weir.value("SELECT 1", unix=True), 1, "somebody on the Unix socket")
    for thread in threads:
        same(thread.get(), 1, "answer")
    same(most, 2, "statements of one address at once")


@case(beyond="it closes the client")
def a_refused_client_stays_connected(t):
    weir = t.weir(default_pool_size=1, query_wait_timeout=0.5)
    holder, client = weir.connect(autocommit=False), weir.connect()
    client.execute("SELECT 1")
    holder.execute("SELECT 1")
    refused(lambda: client.execute("SELECT 'late'"))
    holder.commit()
    same(client.execute("SELECT 'later'").fetchone()[0], "later", "the same connection")


@case(beyond="a dead client stays in the queue")
def a_waiter_that_vanishes_leaves_the_queue(t):
    weir = t.weir(default_pool_size=1)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    ghosts = [weir.raw() for _ in range(20)]
    for ghost in ghosts:
        ghost.send(raw.query("INSERT INTO seen_by_a_ghost SELECT 1"))
    wait_until("they wait", lambda: weir.pool()["cl_waiting"] == 20)
    for ghost in ghosts:
        ghost.close()
    wait_until("they are gone", lambda: weir.pool()["cl_waiting"] == 0, 2)
    holder.commit()
    same(weir.value("SELECT 1"), 1, "the next client")
    holds("seen_by_a_ghost" not in t.pg.log(), "a query was started for a client that was gone")


@case()
def max_client_conn_acts_and_recovers(t):
    weir = t.weir(max_client_conn=5)
    clients = [weir.connect() for _ in range(5)]
    said = refused(lambda: weir.connect(connect_timeout=5), "53300")
    holds("max_client_conn" in said, said)
    same(clients[0].execute("SELECT 1").fetchone()[0], 1, "those inside")
    same(len(weir.console("SHOW VERSION")), 1, "the console is exempt")
    clients.pop().close()
    wait_until("a place is free", weir.answers)


@case()
def max_db_connections_over_all_users(t):
    weir = t.weir(max_db_connections=2, query_wait_timeout=1)
    first, second = weir.connect(autocommit=False), weir.connect(autocommit=False, user="app")
    first.execute("SELECT 1")
    second.execute("SELECT 1")
    refused(lambda: weir.value("SELECT 1", user="other"), text="query_wait_timeout")
    first.commit()
    same(weir.value("SELECT 1", user="other"), 1, "an idle server of another pool makes room")
    holds(t.pg.servers_n() <= 2, "more servers than allowed")


@case()
def max_user_connections_over_all_databases(t):
    t.pg.database("user_cap")
    weir = t.weir(max_user_connections=1, query_wait_timeout=1)
    first = weir.connect(autocommit=False, user="app")
    first.execute("SELECT 1")
    refused(lambda: weir.value("SELECT 1", user="app", dbname="user_cap"),
            text="query_wait_timeout")
    same(weir.value("SELECT 1", user="other", dbname="user_cap"), 1, "another user")


@case(beyond="1.18 knows max_user_connections only")
def max_client_connections_of_user_and_database(t):
    at = f"host=127.0.0.1 port={t.pg.port} dbname=postgres"
    weir = t.weir(databases={"few": f"{at} max_db_client_connections=2", "*": at},
                  users={"app": "max_user_client_connections=1"})
    kept = [weir.connect(dbname="few"), weir.connect(dbname="few"), weir.connect(user="app")]
    said = refused(lambda: weir.connect(dbname="few", connect_timeout=5), "53300")
    holds("max_db_client_connections" in said, said)
    said = refused(lambda: weir.connect(user="app", connect_timeout=5), "53300")
    holds("max_user_client_connections" in said, said)
    kept.pop().close()
    wait_until("a place is free", lambda: weir.answers(user="app"))


@case(beyond="it has no cap over pools")
def max_upstream_connections_over_everything(t):
    t.pg.database("upstream_cap")
    weir = t.weir(max_upstream_connections=3, query_wait_timeout=10)

    def work(user, name):
        with psycopg.connect(weir.dsn(user=user, dbname=name), autocommit=True) as client:
            return [client.execute("SELECT 1, pg_sleep(0.005)").fetchone()[0] for _ in range(20)]

    threads = [in_thread(work, user, name) for user in ("postgres", "app", "other")
               for name in ("postgres", "upstream_cap") for _ in range(2)]
    most, shown = 0, 0
    while not all(thread.done() for thread in threads):
        most = max(most, t.pg.servers_n())
        shown = max(shown, len(weir.console("SHOW SERVERS")))
    for thread in threads:
        same(thread.get(), [1] * 20, "answers")
    holds(shown <= 3, f"{shown} servers, 3 are allowed")
    # PostgreSQL takes a moment to end a session that has said goodbye.
    holds(most <= 3 + 2, f"PostgreSQL saw {most} servers, 3 are allowed")


@case()
def pool_size_of_a_database(t):
    at = f"host=127.0.0.1 port={t.pg.port} dbname=postgres"
    weir = t.weir(databases={"small": f"{at} pool_size=2", "*": at})
    threads = [in_thread(lambda: weir.value("SELECT 1, pg_sleep(0.3)", dbname="small"))
               for _ in range(6)]
    most = 0
    while not all(thread.done() for thread in threads):
        most = max(most, t.pg.servers_n())
    for thread in threads:
        same(thread.get(), 1, "answer")
    same(most, 2, "servers")


@case()
def min_pool_size_and_idle_timeout(t):
    weir = t.weir(min_pool_size=3, server_idle_timeout=1)
    with weir.connect() as client:
        client.execute("SELECT 1")
        wait_until("three servers", lambda: t.pg.servers_n() == 3)
        threads = [in_thread(lambda: weir.value("SELECT 1, pg_sleep(0.3)")) for _ in range(6)]
        for thread in threads:
            thread.get()
        wait_until("six servers shrink to three", lambda: t.pg.servers_n() == 3, 5)


@case()
def server_lifetime_replaces_servers(t):
    weir = t.weir(default_pool_size=1, server_lifetime=1)
    with weir.connect() as client:
        pid = client.execute("SELECT pg_backend_pid()").fetchone()[0]
        wait_until("another server", lambda: client.execute("SELECT pg_backend_pid()")
                   .fetchone()[0] != pid, 5)


@case(beyond="the query runs on")
def timeouts_of_queries_and_transactions(t):
    weir = t.weir(query_timeout=1, idle_transaction_timeout=1)
    client = weir.connect()
    began = time.monotonic()
    refused(lambda: client.execute("SELECT pg_sleep(20)"))
    holds(time.monotonic() - began < 3, "query_timeout took too long")
    wait_until("the statement is gone", lambda: t.pg.running_n("pg_sleep") == 0, 3)
    idle = weir.connect(autocommit=False)
    idle.execute("SELECT 1")
    wait_until("the idle transaction is ended", lambda: t.pg.value(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == 0, 4)
    refused(lambda: idle.execute("SELECT 2"))
    same(weir.value("SELECT 1"), 1, "others")


@case()
def client_idle_timeout_acts(t):
    weir = t.weir(client_idle_timeout=1)
    with weir.raw() as client:
        client.query("SELECT 1")
        holds(client.is_closed(4), "an idle client stays")


@case()
def a_queue_is_served_in_order(t):
    weir = t.weir(default_pool_size=1, workers=1)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    clients = [weir.raw() for _ in range(8)]
    for i, client in enumerate(clients):
        client.send(raw.query(f"SELECT {i}, clock_timestamp()::text"))
        wait_until("it waits", lambda n=i + 1: weir.pool()["cl_waiting"] == n)
    holder.commit()
    stamps = []
    for client in clients:
        stamps += [raw.row_values(b)[1] for k, b in client.until_ready() if k == "D"]
    same(stamps, sorted(stamps), "order of service")


@case(beyond="it opens one server at a time")
def servers_are_opened_in_parallel(t):
    """A slow login (a connect_query that sleeps) must not make ten clients wait ten times."""
    at = f"host=127.0.0.1 port={t.pg.port} dbname=postgres connect_query='SELECT pg_sleep(0.5)'"
    weir = t.weir(databases={"*": at}, default_pool_size=10)
    began = time.monotonic()
    threads = [in_thread(lambda: weir.value("SELECT 1, pg_sleep(1)")) for _ in range(10)]
    for thread in threads:
        same(thread.get(), 1, "answer")
    took = time.monotonic() - began
    t.note(f"10 clients in {took:.1f} s")
    holds(took < 5, f"{took:.1f} s: one login after the other")
