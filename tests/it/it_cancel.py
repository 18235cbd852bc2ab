"""Cancel: the right query, no other, and also one that still waits in our queue."""
import os
import signal
import time

import psycopg

import raw
from harness import case, holds, in_thread, refused, same, wait_until


def send_cancel(weir, key):
    with raw.Raw(weir.tcp, login=False) as c:
        c.send(raw.request(raw.CANCEL_REQUEST, key))
        holds(c.is_closed(), "the connection of a cancel stays open")


@case()
def cancels_the_running_statement_only(t):
    weir = t.weir()
    victim, other = weir.connect(), weir.connect()
    waiting = in_thread(lambda: other.execute("SELECT pg_sleep(1.5), 'undisturbed'").fetchone()[1])
    running = in_thread(lambda: refused(lambda: victim.execute("SELECT pg_sleep(30)"), "57014"))
    wait_until("both run", lambda: t.pg.running_n("pg_sleep") == 2)
    began = time.monotonic()
    victim.cancel()
    running.get()
    holds(time.monotonic() - began < 2, "the cancel took too long")
    same(waiting.get(), "undisturbed", "the other query")
    same(victim.execute("SELECT 1").fetchone()[0], 1, "the cancelled client goes on")


@case(beyond="^C on a queued query does nothing")
def cancels_a_query_that_waits_in_the_queue(t):
    weir = t.weir(default_pool_size=1)
    holder, queued = weir.connect(autocommit=False), weir.connect()
    holder.execute("SELECT 1")
    waiting = in_thread(lambda: refused(lambda: queued.execute("SELECT 'never'"), "57014"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    began = time.monotonic()
    queued.cancel()
    waiting.get()
    holds(time.monotonic() - began < 2, "the cancel took too long")
    same(weir.pool()["cl_waiting"], 0, "waiting")
    holder.commit()
    same(queued.execute("SELECT 1").fetchone()[0], 1, "the cancelled client goes on")
    same(holder.execute("SELECT 2").fetchone()[0], 2, "the holder goes on")


@case(beyond="^C does nothing before the server has its settings")
def cancels_a_query_whose_server_is_being_prepared(t):
    weir = t.weir(default_pool_size=1)
    backend = weir.value("SELECT pg_backend_pid()")
    client = weir.raw(options="-c work_mem=12345kB")
    os.kill(backend, signal.SIGSTOP)
    try:
        client.send(raw.query("CREATE TABLE never_made (n int)"))
        wait_until("its settings are on their way", lambda: "tested" in
                   [row["state"] for row in weir.console("SHOW SERVERS")])
        send_cancel(weir, client.key)
        kinds = [(kind, raw.error_fields(body).get("C") if kind == "E" else body)
                 for kind, body in client.until_ready(errors="return")]
        same(kinds, [("E", "57014"), ("Z", b"I")], "its answer")
    finally:
        os.kill(backend, signal.SIGCONT)
    same(client.query("SHOW work_mem"), [["12345kB"]], "it goes on")
    same(weir.value("SELECT count(*) FROM pg_class WHERE relname = 'never_made'"), 0, "tables")


@case()
def a_late_cancel_hits_nobody_else(t):
    """The classic race: the cancelled query has just ended and its server serves another."""
    weir = t.weir(default_pool_size=1)
    hits = 0
    with weir.raw() as first, weir.raw() as second:
        for i in range(t.sized(150, 20)):
            first.send(raw.query("SELECT 1"))
            second.send(raw.query("SELECT pg_sleep(0.002), 'second'"))
            if i % 3 == 0:
                first.until_ready(errors="keep")
                send_cancel(weir, first.key)
            else:
                send_cancel(weir, first.key)
                first.until_ready(errors="keep")
            got = second.until_ready(errors="keep")
            hits += any(kind == "E" for kind, _ in got)
    same(hits, 0, "queries of the other client that were cancelled")


@case()
def a_wrong_key_is_ignored(t):
    weir = t.weir()
    with weir.raw() as client:
        client.send(raw.query("SELECT pg_sleep(0.5), 'on'"))
        near = client.key[:7] + bytes([client.key[7] ^ 1])
        for key in (b"\0" * 8, b"\xff" * 8, near, b"", b"x" * 5, b"y" * 200):
            send_cancel(weir, key)
        same([raw.row_values(b) for k, b in client.until_ready() if k == "D"], [["", "on"]], "row")


@case()
def cancel_of_an_idle_client_does_nothing(t):
    weir = t.weir(default_pool_size=1)
    with weir.raw() as idle, weir.connect() as other:
        idle.query("SELECT 1")
        for _ in range(5):
            send_cancel(weir, idle.key)
        same(other.execute("SELECT 1").fetchone()[0], 1, "other")
        same(idle.query("SELECT 2"), [["2"]], "idle")


@case()
def keys_are_not_guessable(t):
    weir = t.weir()
    keys = []
    for _ in range(20):
        with weir.raw() as client:
            keys.append(client.key)
    same(len(set(keys)), 20, "different keys")
    bits = [sum(bin(a ^ b).count("1") for a, b in zip(x, y)) for x, y in zip(keys, keys[1:])]
    holds(sum(bits) / len(bits) > 10, f"keys differ by {bits} bits only")


@case()
def cancel_in_a_transaction_leaves_it_failed(t):
    weir = t.weir(default_pool_size=1)
    client = weir.connect(autocommit=False)
    client.execute("SELECT 1")
    running = in_thread(lambda: refused(lambda: client.execute("SELECT pg_sleep(30)"), "57014"))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    client.cancel()
    running.get()
    same(client.info.transaction_status, psycopg.pq.TransactionStatus.INERROR, "status")
    client.rollback()
    same(client.execute("SELECT 1").fetchone()[0], 1, "after rollback")


@case(seconds=90)
def many_cancels_at_once(t):
    weir = t.weir(default_pool_size=5)
    count = t.sized(25, 8)
    clients = [weir.connect() for _ in range(count)]
    running = [in_thread(lambda c=c: refused(lambda: c.execute("SELECT pg_sleep(60)"), "57014"))
               for c in clients[:5]]
    wait_until("five run", lambda: t.pg.running_n("pg_sleep") == 5)
    for c in clients[:5]:
        for _ in range(3):
            c.cancel()
    for r in running:
        r.get()
    for c in clients:
        same(c.execute("SELECT 1").fetchone()[0], 1, "goes on")


@case(beyond="in transaction mode it has the settings of a session for no client")
def settings_survive_a_cancel_that_comes_too_late(t):
    """What a transaction has set belongs to its client, also where a cancel for it was on its way
    when it ended; the next client gets none of it."""
    weir = t.weir(default_pool_size=1)
    late = 0
    with weir.raw() as client, weir.raw() as other:
        for i in range(t.sized(120, 40)):
            want = f"{1001 + i}ms"
            client.send(raw.query(f"SELECT set_config('lock_timeout', '{want}', false), "
                                  "pg_sleep(0.002)"))
            if i % 2:
                time.sleep(0.001)
            send_cancel(weir, client.key)
            done = all(kind != "E" for kind, _ in client.until_ready(errors="keep"))
            late += done
            same(client.query("SHOW lock_timeout") == [[want]], done, f"{want} is set")
            same(other.query("SHOW lock_timeout"), [["0"]], "of the other")
    t.note(f"{late} came too late")
