"""What a shed client hears, and what of it runs on: refusals, cancels, terminations, orphans.

A class is driven by hand here: CANCEL and TRIP on the console; where the breaker itself has to
open, an slo_p99 that no statement can meet drives it.
"""
import os
import random
import re
import signal
import socket
import time

import psycopg

import raw
from harness import case, holds, in_thread, refused, same, wait_until

BEYOND = "it knows no classes"
BULK = "[class bulk]\nmatch = application_name:bulky\n"
SAYS_CANCELLED = r'pgweir: statement of class "bulk" was cancelled on backend "127\.0\.0\.1:\d+"'
SAYS_SHED = r'pgweir: class "bulk" is being shed on backend "127\.0\.0\.1:\d+"'
RETRY = re.compile(r"retry_after=(\d+)s\. Admin: SHOW BREAKERS")


def shown(weir, name):
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == name)


def bulk(weir, **params):
    return weir.connect(application_name="bulky", **params)


def error_of(function):
    """The error a call ends in."""
    try:
        function()
    except psycopg.Error as error:
        return error
    raise AssertionError("no error")


def same_error(error, sqlstate, message, detail=None):
    same(error.sqlstate, sqlstate, f"SQLSTATE of “{error}”")
    holds(re.search(message, error.diag.message_primary), error.diag.message_primary)
    holds(RETRY.search(error.diag.message_hint), error.diag.message_hint)
    if detail:
        holds(re.search(detail, error.diag.message_detail), error.diag.message_detail)


# ---- cancelled -------------------------------------------------------------------------------


@case(beyond=BEYOND)
def the_operator_cancels_what_runs_of_a_class(t):
    weir = t.weir(text=BULK)
    name = t.pg.database("kept")
    with t.pg.connect(name) as direct:
        direct.execute("CREATE TABLE kept (i int)")
    readers = [bulk(weir), bulk(weir, autocommit=False)]
    writer, user = bulk(weir, dbname=name), weir.connect()
    running = [in_thread(lambda c=c: error_of(lambda: c.execute("SELECT pg_sleep(60)")))
               for c in readers]
    writes = in_thread(lambda: writer.execute("INSERT INTO kept SELECT 1 FROM pg_sleep(1.5)"))
    uses = in_thread(lambda: user.execute("SELECT 'undisturbed', pg_sleep(1.5)").fetchone()[0])
    wait_until("all run", lambda: t.pg.running_n("pg_sleep") == 4)
    weir.console("CANCEL bulk")
    for thread in running:
        same_error(thread.get(), "57014", SAYS_CANCELLED, "administrator")
    writes.get()
    same(uses.get(), "undisturbed", "a statement of another class")
    same(t.pg.value("SELECT count(*) FROM kept", dbname=name), 1, "rows written")
    readers[1].rollback()
    for client in readers:
        same(client.execute("SELECT 1").fetchone()[0], 1, "the cancelled client goes on")
    same(shown(weir, "bulk")["cancelled"], 2, "cancelled")
    same(shown(weir, "interactive")["cancelled"], 0, "cancelled of the protected class")
    metric = 'pgweir_class_cancelled_total{class="bulk",reason="operator"} 2'
    holds(metric in weir.status("/metrics")[1], metric)


@case(beyond=BEYOND)
def only_a_sheddable_class_is_cancelled_by_hand(t):
    weir = t.weir()
    refused(lambda: weir.console("CANCEL interactive"), "08P01", "protected")
    refused(lambda: weir.console("CANCEL nobody"), "08P01", "no such class")
    weir.console("CANCEL bulk")


@case(beyond=BEYOND)
def a_cancelled_batch_is_skipped_to_its_sync(t):
    """Pipelined: the rest of the batch is skipped, the next one served, nothing out of step."""
    weir = t.weir(text=BULK, default_pool_size=1)
    with weir.raw(application_name="bulky") as client:
        slow = raw.parse("", "SELECT pg_sleep(60)") + raw.bind("", "") + raw.execute()
        fast = raw.parse("", "SELECT 'next'") + raw.bind("", "") + raw.execute()
        client.send(slow, fast, raw.sync(), fast, raw.sync())
        wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
        weir.console("CANCEL bulk")
        first = client.until_ready(errors="keep")
        same("".join(kind for kind, _ in first), "12EZ", "answers of the cancelled batch")
        fields = raw.error_fields(first[2][1])
        same((fields["S"], fields["C"]), ("ERROR", "57014"), "error")
        holds(re.search(SAYS_CANCELLED, fields["M"]), fields["M"])
        second = client.until_ready()
        same("".join(kind for kind, _ in second), "12DCZ", "answers of the next batch")
        same(client.query("SELECT 'and on'"), [["and on"]], "afterwards")


@case(beyond=BEYOND)
def what_else_ends_a_statement_says_so_itself(t):
    """Its own timeout and its client's own cancel keep PostgreSQL's words."""
    weir = t.weir(text=BULK)
    client = bulk(weir)
    with client.transaction():
        client.execute("SET LOCAL statement_timeout = '200ms'")
        error = error_of(lambda: client.execute("SELECT pg_sleep(60)"))
        holds("statement timeout" in str(error), str(error))
        raise psycopg.Rollback()
    running = in_thread(lambda: error_of(lambda: client.execute("SELECT pg_sleep(60)")))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    client.cancel()
    holds("user request" in str(running.get()), "the client's own cancel")
    same(shown(weir, "bulk")["cancelled"], 0, "cancelled by pgweir")


@case(beyond=BEYOND, seconds=120)
def a_cancel_never_hits_another_statement(t):
    """Statements of many clients under a rain of CANCELs, ending at all moments of one: an error
    only where one was due, and the connection in step afterwards."""
    weir = t.weir(text=BULK, default_pool_size=4)
    stop, hits, counts = [], [], []

    def work(name, wanted):
        client = weir.connect(application_name=name, autocommit=False)
        n = 0
        while not stop:
            n += 1
            try:
                pause = random.uniform(0, 0.2)
                same(client.execute("SELECT %s, pg_sleep(%s)", [n, pause]).fetchone()[0], n,
                     "answer")
                same(client.execute("SELECT -%s", [n]).fetchone()[0], -n, "next answer")
                client.commit()
            except psycopg.errors.QueryCanceled as error:
                hits.append((wanted, str(error)))
                client.rollback()
        counts.append(n)

    threads = [in_thread(work, name, name == "bulky") for name in ["bulky"] * 5 + ["user"] * 3]
    while len(hits) < t.sized(60, 10):
        weir.console("CANCEL bulk")
    stop.append(True)
    for thread in threads:
        thread.get()
    same([text for wanted, text in hits if not wanted], [], "statements of others that were hit")
    holds(all(re.search(SAYS_CANCELLED, text) for _, text in hits), hits[:3])
    marked = shown(weir, "bulk")["cancelled"]
    t.note(f"{len(hits)} of {sum(counts)} statements ended by {marked} cancels")
    holds(len(hits) <= marked, f"{len(hits)} errors of {marked} cancels")


@case(beyond=BEYOND, seconds=90)
def what_no_cancel_ends_is_terminated(t):
    """A backend that does not run cannot obey: after 10 s its connection is closed."""
    pg = t.own_postgres().start()
    weir = t.weir(pg=pg, text=BULK + "on_overload = hold, pace, cancel, terminate\n",
                  default_pool_size=1)
    client = bulk(weir)
    client.execute("SELECT 1")
    running = in_thread(lambda: error_of(lambda: client.execute("SELECT pg_sleep(60)")))
    wait_until("it runs", lambda: pg.running_n("pg_sleep"))
    pid = pg.value("SELECT pid FROM pg_stat_activity WHERE query ~ 'pg_sleep.60' "
                   "AND application_name <> 'direct'")
    os.kill(pid, signal.SIGSTOP)
    try:
        weir.console("CANCEL bulk")
        error = running.get(40)
    finally:
        os.kill(pid, signal.SIGCONT)
    holds(re.search('class "bulk" was terminated.*retry_after=', str(error), re.DOTALL), str(error))
    same(shown(weir, "bulk")["terminated"], 1, "terminated")
    same(weir.value("SELECT 1"), 1, "another client")
    wait_until("the statement has ended", lambda: pg.running_n("pg_sleep") == 0, 20)


# ---- orphans ---------------------------------------------------------------------------------


ORPHANS = {"cancelled": ("", "SELECT pg_sleep(3)"),
           "finished where the class says so": ("orphan = finish\n", "SELECT pg_sleep(3)"),
           "finished where it writes": ("", "INSERT INTO orphan SELECT 1 FROM pg_sleep(3)")}


@case(beyond="it leaves them running", each=ORPHANS)
def the_statement_of_a_client_that_has_gone(t, how):
    setting, sql = how
    weir = t.weir(text=BULK + setting, default_pool_size=1)
    name = t.pg.database(f"orphanage_{len(setting)}_{sql[0].lower()}")
    with t.pg.connect(name) as direct:
        direct.execute("CREATE TABLE orphan (i int)")
    ghost = weir.raw(application_name="bulky", database=name)
    ghost.send(raw.query(sql))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    pid = t.pg.value("SELECT pid FROM pg_stat_activity WHERE query ~ '^[SI].*pg_sleep' "
                     "AND application_name <> 'direct'")
    began = time.monotonic()
    ghost.close()
    cancelled = not setting and sql.startswith("SELECT")
    same(weir.value("SELECT pg_backend_pid()", dbname=name, connect_timeout=20), pid,
         "the server is kept")
    t.note(f"free after {time.monotonic() - began:.2f} s")
    same(shown(weir, "bulk")["orphans"], int(cancelled), "orphans")
    same(t.pg.value("SELECT count(*) FROM orphan", dbname=name), int(sql.startswith("INSERT")),
         "rows written")


@case(beyond="it leaves them running")
def a_client_that_goes_without_reading_is_noticed(t):
    """Its socket is full and not read, and it says goodbye by closing: the result is given up."""
    weir = t.weir(text=BULK, default_pool_size=1)
    ghost = weir.raw(application_name="bulky")
    ghost.send(raw.query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)"))
    stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"
    wait_until("it is stuck", lambda: t.pg.value(stuck))
    ghost.sock.shutdown(socket.SHUT_WR)
    same(weir.value("SELECT 1", connect_timeout=20), 1, "another client")
    same(shown(weir, "bulk")["orphans"], 1, "orphans")


# ---- refused ---------------------------------------------------------------------------------


def tripped(t, **settings):
    """A pgweir whose class bulk may have one server, which is taken; others of it are refused after
    a moment. Returns it with the client that holds the server."""
    weir = t.weir(text=BULK + "queue_deadline = 0.3\n" + settings.pop("more", ""), **settings)
    with weir.connect() as user:
        user.execute("SELECT 1")
    weir.console("TRIP bulk")
    wait_until("the trip shows", lambda: shown(weir, "bulk")["limit"] == 1)
    holder = bulk(weir, autocommit=False)
    holder.execute("SELECT 1")
    return weir, holder


SIMPLE = raw.query("SELECT 1")
BATCH = raw.parse("", "SELECT 1") + raw.bind("", "") + raw.describe("P") + raw.execute()
FIRST_WORDS = {  # what is sent; what comes back
    "simple": (SIMPLE, "EZ"),
    "two simple": (SIMPLE + SIMPLE, "EZEZ"),
    "begin": (raw.query("BEGIN"), "EZ"),
    "copy out": (raw.query("COPY (SELECT 1) TO STDOUT"), "EZ"),
    "copy in": (raw.query("COPY pg_class FROM STDIN"), "EZ"),
    "copy in, with its data": (raw.query("COPY pg_class FROM STDIN") + raw.message("d", b"1\n") +
                               raw.message("c") + raw.sync(), "EZZ"),
    "function call": (raw.message("F", bytes(12)), "EZ"),
    "extended": (BATCH + raw.sync(), "EZ"),
    "extended, named": (raw.parse("n", "SELECT 1") + raw.sync() + raw.bind("", "n") +
                        raw.execute() + raw.sync(), "EZEZ"),
    "extended, flushed": (raw.parse("", "SELECT 1") + raw.flush() + raw.bind("", "") + raw.flush() +
                          raw.execute() + raw.flush() + raw.sync(), "EZ"),
    "extended copy out": (raw.parse("", "COPY (SELECT 1) TO STDOUT") + raw.bind("", "") +
                          raw.execute() + raw.sync(), "EZ"),
    "extended copy in": (raw.parse("", "COPY pg_class FROM STDIN") + raw.bind("", "") +
                         raw.execute() + raw.message("d", b"1\n") + raw.message("c") + raw.sync(),
                         "EZ"),
    "three batches": ((BATCH + raw.sync()) * 3, "EZEZEZ"),
    "batch, simple": (BATCH + raw.sync() + SIMPLE, "EZEZ"),
    "two executes, one sync": (BATCH + BATCH + raw.sync(), "EZ"),
    "a lone sync": (raw.sync(), "Z"),
    "close": (raw.close("S", "n") + raw.sync(), "EZ"),
}


@case(beyond=BEYOND, each=FIRST_WORDS)
def a_refused_first_statement(t, words):
    """ERROR 53000 in the right place, ReadyForQuery 'I', and the connection stays good."""
    sent, wanted = words
    weir, holder = tripped(t)
    with weir.raw(application_name="bulky") as client:
        client.send(sent)
        got = []
        while sum(kind == "Z" for kind, _ in got) < wanted.count("Z"):
            got += client.until_ready(errors="keep")
        same("".join(kind for kind, _ in got), wanted, "answers")
        for kind, body in got:
            if kind == "Z":
                same(body, b"I", "transaction status")
                continue
            fields = raw.error_fields(body)
            same((fields["S"], fields["C"]), ("ERROR", "53000"), "error")
            holds(re.search(SAYS_SHED, fields["M"]), fields["M"])
            holds("latency breaker throttled" in fields["D"] and "bulk at" in fields["D"],
                  fields["D"])
            holds(4 <= int(RETRY.search(fields["H"]).group(1)) <= 360, fields["H"])
        holder.commit()
        same(client.query("SELECT 'let in'"), [["let in"]], "afterwards")


@case(beyond=BEYOND)
def nothing_is_refused_inside_a_transaction(t):
    weir, holder = tripped(t)
    weir.console("TRIP bulk")
    for n in range(5):
        same(holder.execute("SELECT %s", [n]).fetchone()[0], n, "in the transaction")
    holder.commit()


@case(beyond=BEYOND, each={"session": "session", "statement": "statement"})
def refusals_in_pool_mode(t, mode):
    """In session mode too the first statement is refused; once a server is held nothing is."""
    weir, holder = tripped(t)
    holder.rollback()
    holder.close()
    weir.write(pool_mode=mode)
    weir.console("RELOAD")
    weir.console("TRIP bulk")
    first, second = weir.raw(application_name="bulky"), weir.raw(application_name="bulky")
    if mode == "session":
        same(first.query("SELECT 1"), [["1"]], "first")
    else:
        first.send(raw.query("SELECT pg_sleep(1.5)"))
        wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    second.send(SIMPLE)
    got = second.until_ready(errors="keep")
    same("".join(kind for kind, _ in got), "EZ", "answer to the second")
    same(raw.error_fields(got[0][1])["C"], "53000", "SQLSTATE")
    if mode == "session":
        same(first.query("SELECT 2"), [["2"]], "who holds a server")
        first.send(raw.terminate())
    else:
        first.until_ready()
    same(second.query("SELECT 3"), [["3"]], "the second, later")


@case(beyond=BEYOND)
def a_full_queue_and_a_late_statement_say_so(t):
    weir = t.weir(text=BULK + "max = 1\nqueue_limit = 1\nqueue_deadline = 1\n")
    holder = bulk(weir, autocommit=False)
    holder.execute("SELECT 1")
    waits, refusals = bulk(weir), bulk(weir)
    late = in_thread(lambda: error_of(lambda: waits.execute("SELECT 1")))
    wait_until("one waits", lambda: shown(weir, "bulk")["waiting"] == 1)
    error = error_of(lambda: refusals.execute("SELECT 1"))
    same((error.sqlstate, error.diag.severity), ("53000", "ERROR"), "full")
    holds("queue of class" in str(error), str(error))
    error = late.get()
    same(error.sqlstate, "53000", "late")
    holds("within 1 s" in str(error), str(error))
    holder.commit()
    for client in (waits, refusals):
        same(client.execute("SELECT 1").fetchone()[0], 1, "afterwards")


# ---- an open breaker ---------------------------------------------------------------------------


class Open:
    """The breaker of a pgweir, open: users miss an SLO that nothing can meet, and the operator has
    tripped bulk to its floor. Users go on until closed."""

    def __init__(self, t, more="", **settings):
        self.weir = t.weir(text="[class interactive]\nslo_p99 = 0.00001\n" + BULK + more,
                           **settings)
        self.user, self.stop = self.weir.connect(), False
        self.running = in_thread(self.use)
        self.weir.console("TRIP bulk")

    def use(self):
        while not self.stop:
            self.user.execute("SELECT 1")

    def state(self):
        return self.weir.console("SHOW UPSTREAMS")[0]["breaker"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop = True
        self.running.get()


LOGINS = {"53300": "", "57P03": "shed_sqlstate = 57P03\n"}


@case(beyond=BEYOND, each=LOGINS)
def an_open_breaker_turns_bulk_away_at_login(t, setting):
    with Open(t, setting) as at:
        early = bulk(at.weir)
        wait_until("the breaker is open", lambda: at.state() == "open", 20)
        with raw.Raw(at.weir.tcp, login=False) as late:
            late.send(raw.startup(user="postgres", database="postgres", application_name="bulky"))
            kind, body = None, b""
            while kind != "E":
                kind, body = late.next()
            fields = raw.error_fields(body)
            code = setting[-6:-1] or "53300"
            same((fields["S"], fields["C"]), ("FATAL", code), "error")
            holds(re.search(SAYS_SHED, fields["M"]), fields["M"])
            holds("latency breaker open" in fields["D"], fields["D"])
            holds(RETRY.search(fields["H"]), fields["H"])
            holds(late.is_closed(), "the connection is closed")
        same(at.weir.value("SELECT 1"), 1, "a user gets in")
        metric = f'pgweir_class_refused_total{{class="bulk",sqlstate="{code}"}} 1'
        holds(metric in at.weir.status("/metrics")[1], metric)
    wait_until("it has closed again", lambda: at.state() != "open", 20)
    same(early.execute("SELECT 1").fetchone()[0], 1, "who was in already")
    same(bulk(at.weir).execute("SELECT 1").fetchone()[0], 1, "a new one")


@case(beyond=BEYOND)
def a_worker_of_a_job_that_is_in_is_not_turned_away(t):
    with Open(t, "match = application_name:pg_dump\n") as at:
        leader = at.weir.connect(application_name="pg_dump", autocommit=False)
        leader.execute("SELECT 1")
        wait_until("the breaker is open", lambda: at.state() == "open", 20)
        worker = at.weir.connect(application_name="pg_dump")
        same(worker.info.status, psycopg.pq.ConnStatus.OK, "a worker")
        refused(lambda: at.weir.connect(application_name="pg_dump", user="app"), text=SAYS_SHED)


@case(beyond=BEYOND)
def an_open_breaker_cancels_what_runs(t):
    """The breaker's own word: what it cannot pace it cancels, and never a writer or a dump."""
    with Open(t, default_pool_size=10) as at:
        readers = [bulk(at.weir) for _ in range(2)]
        dump = at.weir.connect(application_name="pg_dump")
        running = [in_thread(lambda c=c: error_of(lambda: c.execute("SELECT pg_sleep(60)")))
                   for c in readers[:1]]
        dumps = in_thread(lambda: dump.execute("SELECT 'dumped', pg_sleep(8)").fetchone()[0])
        wait_until("they run", lambda: t.pg.running_n("pg_sleep") >= 2)
        for thread in running:
            same_error(thread.get(30), "57014", SAYS_CANCELLED, r"latency breaker \w+ for .* s: ")
        same(dumps.get(), "dumped", "the backup")
        same(shown(at.weir, "backup")["cancelled"], 0, "backups cancelled")
        metric = 'pgweir_class_cancelled_total{class="bulk",reason="overload"} 1'
        holds(metric in at.weir.status("/metrics")[1], metric)
    at.weir.console("RELEASE")
    same(readers[0].execute("SELECT 1").fetchone()[0], 1, "afterwards")
