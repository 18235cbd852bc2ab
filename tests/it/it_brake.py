"""Held between statements: sessions and long transactions of a class that the breaker holds."""
import time

import raw
from harness import case, holds, in_thread, same, wait_until

BEYOND = "it knows no classes"
BULK = "[class bulk]\nmatch = application_name:bulky\n"


def shown(weir, name="bulk"):
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == name)


def bulk(weir, **params):
    return weir.raw(application_name="bulky", **params)


# ---- more than may run at once -----------------------------------------------------------------


def work(client, until, statement="SELECT pg_sleep(0.05)"):
    """One statement after the other; returns how many."""
    n = 0
    while time.monotonic() < until:
        client.query(statement)
        n += 1
    return n


HOW = {"sessions": ("session", ()), "transactions": ("transaction", ("BEGIN", "SELECT 1")),
       "sessions in a transaction": ("session", ("BEGIN",))}


@case(beyond=BEYOND, each=HOW)
def those_that_go_on_share_what_may_run(t, how):
    """Six leases that never end where one may run: together they are about one, and all go on."""
    mode, before = how
    weir = t.weir(text=BULK, pool_mode=mode, default_pool_size=20)
    clients = [bulk(weir) for _ in range(6)]
    for client in clients:
        for statement in before or ("SELECT 1",):
            client.query(statement)
    user = weir.raw(application_name="psql")
    same(shown(weir)["active"], 6, "leases")
    weir.console("TRIP bulk")
    wait_until("the trip shows", lambda: shown(weir)["limit"] == 1)
    began = time.monotonic()
    until = began + 4
    running = [in_thread(work, client, until) for client in clients]
    users = in_thread(work, user, until)
    counts = [thread.get() for thread in running]
    took, row = time.monotonic() - began, shown(weir)
    at_once = sum(counts) * 0.05 / took
    t.note(f"{at_once:.1f} at once, {min(counts)} to {max(counts)} each, users {users.get()}")
    holds(at_once < 2.5, f"{at_once:.1f} ran at once where one may")
    holds(min(counts) >= 3, f"one of them ran {min(counts)} statements")
    holds(users.get() > 60, f"users ran {users.get()}")
    holds(row["rests"] >= 6, f"rests: {row['rests']}")
    holds(row["rested_us"] > 6_000_000, f"time rested: {row['rested_us']}")
    same(shown(weir, "interactive")["rests"], 0, "rests of users")
    holds("pgweir_class_rested_seconds_total{" in weir.status("/metrics")[1], "no metric")
    weir.console("RELEASE")
    wait_until("the limit is gone", lambda: not shown(weir)["limited"])
    time.sleep(0.2)  # a tick
    n = work(clients[0], time.monotonic() + 1)
    holds(n > 12, f"{n} in a second once it is released")


# ---- held --------------------------------------------------------------------------------------


class Tested:
    """Users miss an SLO that nothing can meet, so that bulk is tried: held for a while."""

    def __init__(self, t, **settings):
        self.weir = t.weir(text="[class interactive]\nslo_p99 = 0.00001\n" + BULK + "max = 100%\n",
                           default_pool_size=20, **settings)
        self.user, self.stop = self.weir.raw(application_name="psql"), False
        self.running = None

    def use(self):
        while not self.stop:
            self.user.query("SELECT 1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop = True
        if self.running:
            self.running.get()

    def begin(self):
        self.running = in_thread(self.use)

    def hold(self):
        self.begin()
        wait_until("bulk is held", lambda: shown(self.weir)["held"], 30)


def seconds(function):
    began = time.monotonic()
    function()
    return time.monotonic() - began


def extended(client, sql, *more):
    client.send(raw.parse("", sql), raw.bind("", ""), raw.execute(), *more, raw.sync())
    return client.until_ready()


ONE = "SELECT 1"


@case(beyond=BEYOND, seconds=90, each={"transaction": "transaction", "session": "session"})
def what_may_wait_is_held_and_nothing_else(t, mode):
    with Tested(t, pool_mode=mode) as at:
        name = f"brake_{mode}"
        t.pg.database(name)
        with t.pg.connect(name) as direct:
            direct.execute("CREATE TABLE written (i int)")
        clients = {}

        def begun(what, *statements):
            clients[what] = bulk(at.weir, database=name)
            for statement in statements:
                clients[what].query(statement)

        begun("reads", "BEGIN", ONE)
        begun("reads, extended", "BEGIN", ONE)
        begun("ends", "BEGIN", ONE)
        begun("rolls back", "BEGIN", ONE)
        begun("ends, extended", "BEGIN", ONE)
        begun("has written", "BEGIN", "INSERT INTO written VALUES (1)")
        begun("copies in", "BEGIN")
        begun("is in a batch", "BEGIN")
        begun("leaves", "BEGIN", ONE)
        clients["copies in"].send(raw.query("COPY written FROM STDIN"))
        wait_until("it may send", lambda: clients["copies in"].next()[0] == "G")
        clients["is in a batch"].send(raw.parse("", ONE), raw.flush())
        same(clients["is in a batch"].next()[0], "1", "answer to Parse")
        if mode == "session":
            begun("between two", ONE)
            begun("locks", "SELECT pg_advisory_lock(1)")
        at.hold()

        def batch(client):
            client.send(raw.bind("", ""), raw.execute(), raw.sync())
            client.until_ready()

        def copy(client):
            client.send(raw.message("d", b"1\n"), raw.message("c"))
            client.until_ready()

        def leave(client):
            client.send(raw.terminate())
            holds(client.is_closed(), "closed")

        acts = {"ends": lambda c: c.query("COMMIT"), "rolls back": lambda c: c.query("ROLLBACK"),
                "ends, extended": lambda c: extended(c, "COMMIT"), "is in a batch": batch,
                "copies in": copy, "reads, extended": lambda c: extended(c, ONE), "leaves": leave}
        running = {what: in_thread(seconds, lambda c=client, what=what:
                                   acts.get(what, lambda c: c.query(ONE))(c))
                   for what, client in clients.items()}
        wait_until("they are shown", lambda: shown(at.weir)["resting"] >= 2, 2)
        took = {what: thread.get() for what, thread in running.items()}
        t.note(", ".join(f"{what} {s:.1f}" for what, s in took.items() if s > 0.3))
        for what, s in took.items():
            if what.startswith("reads"):
                holds(0.3 < s < 3.5, f"{what}: {s:.1f} s")
            elif what == "between two":
                holds(0.3 < s < 12, f"{what}: {s:.1f} s")
            else:
                holds(s < 0.3, f"{what}: held for {s:.1f} s")
        row = shown(at.weir)
        same(row["rests"], len([s for s in took.values() if s > 0.3]), "rests")
        holds(row["rested_us"] > 600_000, f"time rested: {row['rested_us']}")


@case(beyond=BEYOND, seconds=90)
def a_series_of_copies_in_a_session_is_held(t):
    """Of a user's session each COPY is bulk, and the next one begins in between."""
    with Tested(t, pool_mode="session") as at:
        client = at.weir.raw(application_name="psql")
        client.query(ONE)
        copy = "COPY (SELECT 1) TO STDOUT"
        at.begin()
        while not shown(at.weir)["held"]:
            client.query(copy)
            client.send(raw.query("COPY (SELECT pg_sleep(0.2)) TO STDOUT"))
            client.until_ready()
        took = seconds(lambda: client.query(copy))
        holds(took > 0.2, f"it began after {took:.2f} s")
        holds(seconds(lambda: client.query(ONE)) < 0.4, "a user's statement is held")
        holds(seconds(lambda: client.query(ONE)) < 0.4, "a user's statement is held")


@case(beyond=BEYOND, seconds=90)
def a_transaction_that_rests_is_not_idle(t):
    with Tested(t, idle_transaction_timeout=1) as at:
        client = bulk(at.weir)
        client.query("BEGIN")
        at.begin()
        deadline = time.monotonic() + 40
        while (took := seconds(lambda: client.query(ONE))) < 1.05:
            holds(time.monotonic() < deadline, "no statement was held for a second")
        t.note(f"held for {took:.1f} s")
        client.query("COMMIT")


@case(beyond=BEYOND, seconds=90)
def whoever_rests_may_leave(t):
    with Tested(t) as at:
        ghost = bulk(at.weir)
        ghost.query("BEGIN")
        at.hold()
        ghost.send(raw.query(ONE))
        wait_until("it rests", lambda: shown(at.weir)["resting"] == 1, 2)
        ghost.close()
        wait_until("its server is free", lambda: shown(at.weir)["active"] == 0, 0.5)


@case(beyond=BEYOND, seconds=90)
def whoever_rests_may_cancel(t):
    """It is answered by PostgreSQL, at once, and in a transaction as PostgreSQL does."""
    with Tested(t) as at:
        client = bulk(at.weir)
        client.query("BEGIN")
        at.hold()
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_until("it rests", lambda: shown(at.weir)["resting"] == 1, 2)
        began = time.monotonic()
        with raw.Raw(at.weir.tcp, login=False) as canceller:
            canceller.send(raw.request(raw.CANCEL_REQUEST, client.key))
            canceller.until_closed()
        got = client.until_ready(errors="return")
        took = time.monotonic() - began
        same((raw.error_fields(got[-2][1])["C"], got[-1][1]), ("57014", b"E"), "its answer")
        holds(took < 1, f"cancelled after {took:.1f} s")
        client.query("ROLLBACK")
