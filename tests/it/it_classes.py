"""Classes: who falls where, what that class may have, and that a breaker acts."""
import time

import psycopg
import raw

from harness import case, holds, in_thread, refused, same, wait_until

BEYOND = "it knows no classes"
SLOW_DUMP = "LOCK TABLE slow IN ACCESS EXCLUSIVE MODE"


def class_of(weir, name):
    """The class SHOW CLIENTS gives the client of this application_name."""
    for row in weir.console("SHOW CLIENTS"):
        if row["application_name"] == name:
            return row["class"]
    return None


BUILT_IN = {name: wanted for wanted, names in {
    "backup": ("pg_dump", "pg_dumpall", "pg_basebackup", "pgbackrest", "barman", "wal-g"),
    "interactive": ("", "psql", "my application", "dump", "PostgreSQL JDBC Driver"),
}.items() for name in names}


@case(beyond=BEYOND, each=BUILT_IN)
def an_application_name_falls_where_it_belongs(t, wanted):
    name = next(key for key in BUILT_IN if BUILT_IN[key] is wanted)
    weir = t.weir()
    names = [key for key, value in BUILT_IN.items() if value == wanted and key]
    clients = [weir.connect(application_name=name) for name in names]
    for client, name in zip(clients, names):
        client.execute("SELECT 1")
        same(class_of(weir, name), wanted, f"class of {name}")


@case(beyond=BEYOND)
def a_real_pg_dump_is_a_backup(t):
    weir = t.weir()
    name = t.pg.database("locked")
    with t.pg.connect(name) as direct:
        direct.execute("CREATE TABLE slow (i int)")
        with direct.transaction():
            direct.execute(SLOW_DUMP)
            dump = t.spawn([t.pg.bin / "pg_dump", "-f", "/dev/null", "-d", weir.dsn(dbname=name)])
            wait_until("pg_dump is there", lambda: class_of(weir, "pg_dump"))
            same(class_of(weir, "pg_dump"), "backup", "class of pg_dump")
            same(shown(weir, "backup")["clients"], 1, "clients of class backup")
        same(dump.wait(20), 0, "exit status of pg_dump")
    same(class_of(weir, "pg_dump"), None, "pg_dump is still there")


@case(beyond=BEYOND)
def the_operator_decides(t):
    weir = t.weir(text="[class reports]\npriority = 5\nmatch = user:app\n"
                       "[class batch]\npriority = 20\n"
                       "match = application_name:night* database:*gres\n")
    for params, wanted in (({"user": "app"}, "reports"), ({"application_name": "nightly"}, "batch"),
                           ({"application_name": "daily"}, "interactive"),
                           # What the operator wrote decides, whatever a client says of itself.
                           ({"user": "app", "application_name": "pg_dump"}, "reports")):
        name = params.setdefault("application_name", "x")
        with weir.connect(**params) as client:
            client.execute("SELECT 1")
            same(class_of(weir, name), wanted, f"class of {params}")


@case(beyond=BEYOND)
def a_class_keeps_to_its_cap_and_leaves_room(t):
    """With a cap of 2, ten bulk clients never hold more, and others find a server at once."""
    weir = t.weir(default_pool_size=5,
                  text="[class bulk]\nmax = 2\nmatch = application_name:bulky\n")

    def bulk():
        with weir_connect(weir, "bulky") as client:
            return client.execute("SELECT 1, pg_sleep(0.4)").fetchone()[0]

    threads = [in_thread(bulk) for _ in range(10)]
    most, times = 0, []
    with weir.connect() as client:
        client.execute("SELECT 1")
        wait_until("bulk runs", lambda: t.pg.running_n("pg_sleep"))
        while not all(thread.done() for thread in threads):
            began = time.monotonic()
            client.execute("SELECT 1")
            times.append(time.monotonic() - began)
            most = max(most, t.pg.running_n("pg_sleep"))
    for thread in threads:
        same(thread.get(), 1, "answer")
    middle = sorted(times)[len(times) // 2]
    t.note(f"{most} at once, small query {middle * 1000:.0f} ms, "
           f"longest {max(times) * 1000:.0f} ms")
    same(most, 2, "bulk statements at once")
    holds(middle < 0.3, f"small queries took {middle:.2f} s behind bulk")


def weir_connect(weir, name):
    return psycopg.connect(weir.dsn(application_name=name), autocommit=True, prepare_threshold=None)


@case(beyond=BEYOND)
def users_go_before_bulk_in_the_queue(t):
    weir = t.weir(default_pool_size=1)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    order = []

    def work(name):
        with weir_connect(weir, name) as client:
            order.append((client.execute("SELECT clock_timestamp()").fetchone()[0], name))

    threads = []
    for i, name in enumerate(("pg_dump", "pg_dump", "user", "user")):
        threads.append(in_thread(work, name))
        wait_until("it waits", lambda n=i + 1: weir.pool()["cl_waiting"] == n)
    holder.commit()
    for thread in threads:
        thread.get()
    same([name for _, name in sorted(order)], ["user", "user", "pg_dump", "pg_dump"], "order")


DEMOTED = {
    "COPY": "COPY (SELECT pg_sleep(3)) TO STDOUT",
    "COPY in a transaction": "BEGIN; COPY (SELECT pg_sleep(3)) TO STDOUT; COMMIT",
    "COPY behind a comment": "/* x */ -- y\n copy (SELECT pg_sleep(3)) TO STDOUT",
    "a cursor": "BEGIN; DECLARE c CURSOR FOR SELECT pg_sleep(3); FETCH ALL FROM c; COMMIT",
}


@case(beyond=BEYOND, each=DEMOTED)
def a_copy_out_of_psql_is_demoted_while_it_lasts(t, sql):
    weir = t.weir()
    child = t.spawn([t.pg.bin / "psql", "-Xq", "-d", weir.dsn(application_name="psql"), "-c", sql])
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    wait_until("it counts as bulk", lambda: shown(weir, "bulk")["active"] == 1, 2)
    same(class_of(weir, "psql"), "bulk", "its class meanwhile")
    child.kill()
    child.wait()


LATER = {
    "COPY": ("COPY (SELECT pg_sleep(3)) TO STDOUT",),
    "a cursor": ("DECLARE c CURSOR FOR SELECT pg_sleep(3)", "FETCH ALL FROM c"),
}


@case(beyond=BEYOND, each={f"{name} {how}": (LATER[name], how)
                           for name in LATER for how in ("simple", "extended")})
def what_follows_a_begin_demotes_as_well(t, what):
    """Drivers send BEGIN by itself, so that only a later statement tells what comes."""
    texts, how = what
    weir = t.weir()
    client = weir.raw(application_name="psql")
    client.query("BEGIN")
    for text in texts[:-1]:
        client.query(text)
    one = raw.query(texts[-1])
    if how == "extended":
        one = raw.parse("", texts[-1]) + raw.bind("", "") + raw.execute() + raw.sync()
    client.send(one)
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep") or t.pg.running_n("FETCH"))
    wait_until("it counts as bulk", lambda: shown(weir, "bulk")["active"] == 1, 2)
    client.until_ready()
    client.query("COMMIT")
    client.send(raw.query("SELECT pg_sleep(1)"))
    wait_until("its next one is a user's", lambda: shown(weir, "interactive")["active"] == 1, 2)
    same(shown(weir, "bulk")["active"], 0, "bulk")


SESSIONS = {
    "COPY first": ("COPY (SELECT pg_sleep(2)) TO STDOUT",),
    "COPY": ("SELECT 1", "COPY (SELECT pg_sleep(2)) TO STDOUT"),
    "COPY behind BEGIN": ("SELECT 1", "BEGIN", "COPY (SELECT pg_sleep(2)) TO STDOUT"),
    "COPY, then again": ("COPY (SELECT 1) TO STDOUT", "COPY (SELECT pg_sleep(2)) TO STDOUT"),
    "a cursor": ("BEGIN", "DECLARE c CURSOR FOR SELECT pg_sleep(2)", "FETCH ALL FROM c"),
    "a runaway": ("SELECT 1", "SELECT 1 FROM generate_series(1, 3000), pg_sleep(0)",
                  "SELECT 1 FROM generate_series(1, 6000), pg_sleep(2)"),
}


@case(beyond=BEYOND, each=SESSIONS)
def a_transaction_of_a_session_is_demoted(t, texts):
    """In session mode, where a server is kept over many transactions: each for itself."""
    weir = t.weir(pool_mode="session", text="[class interactive]\ndemote_rows = 5000\n"
                                            "demote_after = 1\n")
    client = weir.raw(application_name="psql")
    for text in texts[:-1]:
        client.query(text)
    client.send(raw.query(texts[-1]))
    wait_until("it counts as bulk", lambda: shown(weir, "bulk")["active"] == 1, 2)
    client.until_ready()
    client.query("COMMIT")
    client.send(raw.query("SELECT pg_sleep(0.5)"))
    wait_until("its next one is a user's", lambda: shown(weir, "interactive")["active"] == 1, 2)
    same(shown(weir, "bulk")["active"], 0, "bulk")


def shown(weir, name):
    """The line of SHOW CLASSES."""
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == name)


@case(beyond=BEYOND)
def long_and_large_transactions_are_demoted_for_their_rest(t):
    weir = t.weir(text="[class interactive]\ndemote_after = 1\ndemote_bytes = 1000000\n"
                       "demote_rows = 5000\n")
    with weir.connect(application_name="long") as client:
        running = in_thread(lambda: client.execute("SELECT pg_sleep(2.5)"))
        wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
        same(shown(weir, "bulk")["active"], 0, "bulk at first")
        wait_until("it is bulk after a second", lambda: shown(weir, "bulk")["active"] == 1, 3)
        running.get()
        wait_until("and no more when it is over", lambda: shown(weir, "bulk")["active"] == 0)
        client.execute("BEGIN")
        client.execute("SELECT repeat('x', 3000000)")
        wait_until("a large result counts", lambda: shown(weir, "bulk")["active"] == 1)
        client.execute("COMMIT")
        wait_until("and no more when it is over", lambda: shown(weir, "bulk")["active"] == 0)
        client.execute("BEGIN")
        client.execute("SELECT 1 FROM generate_series(1, 5000)")
        client.execute("SELECT 1")
        wait_until("many rows count", lambda: shown(weir, "bulk")["active"] == 1)
        client.execute("COMMIT")
        wait_until("and no more when it is over", lambda: shown(weir, "bulk")["active"] == 0)
        same(shown(weir, "interactive")["demoted"], 3, "transactions demoted")
        same(class_of(weir, "long"), "interactive", "class of the client in the end")


@case(beyond=BEYOND)
def queue_limit_and_deadline_of_a_class(t):
    weir = t.weir(default_pool_size=1, text="[class bulk]\nqueue_limit = 2\nqueue_deadline = 1\n"
                                            "match = application_name:bulky\n")
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    began = time.monotonic()
    errors = []

    def work():
        with weir_connect(weir, "bulky") as client:
            errors.append((refused(lambda: client.execute("SELECT 1")), time.monotonic() - began))
            same(client.closed, False, "closed")

    threads = [in_thread(work) for _ in range(4)]
    for thread in threads:
        thread.get()
    for words in ("queue of class", "within 1 s"):
        same(len([text for text, _ in errors if words in text]), 2, f"{words}: {errors}")
    for text, took in errors:
        holds("bulk" in text, f"the error names no class: {text}")
        holds(took < 3, "the deadline came late")
    holder.commit()
    same(weir.value("SELECT 1"), 1, "others")
