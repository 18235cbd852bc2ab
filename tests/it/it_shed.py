"""What a shed client hears, and what of it runs on: refusals, cancels, terminations, orphans.

A class is driven by hand here: CANCEL and TRIP on the console; where the breaker itself has to
open, an slo_p99 that no statement can meet drives it.
"""
import os
import random
import re
import signal
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
    """Pipelined: the rest of the batch is skipped, the next one is served, nothing is out of step."""
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
