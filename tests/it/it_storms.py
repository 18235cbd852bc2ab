"""Storms: clients that come back at once, and many that log in together."""
import socket
import time

import raw

from harness import case, holds, in_thread, refused, same, wait_until

BEYOND = "it tells every refusal at once"
BULKY = "[class bulk]\nqueue_limit = 1\nqueue_deadline = 20\nmatch = application_name:bulky\n"


def timed(function):
    began = time.monotonic()
    result = function()
    return time.monotonic() - began, result


@case(beyond=BEYOND)
def each_refusal_is_held_longer(t):
    """A bulk client that asks again and again is told later each time, and served in the end."""
    weir = t.weir(default_pool_size=1, text=BULKY)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    waiting = weir.connect(application_name="bulky")
    queued = in_thread(lambda: waiting.execute("SELECT 1"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    client = weir.connect(application_name="bulky")
    took = [timed(lambda: refused(lambda: client.execute("SELECT 1"), "53000"))[0]
            for _ in range(4)]
    t.note("held for " + ", ".join(f"{seconds:.1f}" for seconds in took) + " s")
    for n, seconds in enumerate(took):
        holds(seconds >= 0.1 * 2 ** n, f"refusal {n} was told after {seconds:.3f} s")
    same(client.closed, False, "closed")
    holder.commit()
    queued.get()
    same(client.execute("SELECT 2").fetchone()[0], 2, "its answer in the end")


@case(beyond=BEYOND)
def users_are_refused_at_once(t):
    """A held connection of an application is one less that works: not within their budget."""
    weir = t.weir(default_pool_size=1, text="[class interactive]\nqueue_limit = 1\n")
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    waiting = weir.connect()
    queued = in_thread(lambda: waiting.execute("SELECT 1"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    with weir.connect() as client:
        seconds = min(timed(lambda: refused(lambda: client.execute("SELECT 1")))[0]
                      for _ in range(5))
        holds(seconds < 0.1, f"the quickest refusal took {seconds:.3f} s")
    holder.commit()
    queued.get()


@case(beyond=BEYOND)
def whoever_is_held_may_cancel_or_leave(t):
    weir = t.weir(default_pool_size=1, text=BULKY)
    holder = weir.connect(autocommit=False)
    holder.execute("SELECT 1")
    waiting = weir.connect(application_name="bulky")
    queued = in_thread(lambda: waiting.execute("SELECT 1"))
    wait_until("one waits", lambda: weir.pool()["cl_waiting"] == 1)
    client = weir.connect(application_name="bulky")
    for _ in range(3):
        refused(lambda: client.execute("SELECT 1"))
    held = in_thread(lambda: refused(lambda: client.execute("SELECT 1"), "57014", "user request"))

    def state():
        return [row["state"] for row in weir.console("SHOW CLIENTS")
                if row["application_name"] == "bulky"]

    wait_until("it is held", lambda: state().count("waiting") == 2)
    client.cancel()
    held.get(0.7)
    going = weir.raw(user="postgres", database="postgres", application_name="bulky")
    going.send(raw.query("SELECT 1"))
    wait_until("another is held", lambda: state().count("waiting") == 2)
    going.close()
    wait_until("and has left", lambda: len(state()) == 2)
    holder.commit()
    queued.get()


@case(beyond=BEYOND)
def a_storm_of_logins_lets_users_in(t):
    """Two hundred bulk clients want in: a few a second get in, and users do not notice."""
    weir = t.weir(text="[class bulk]\nlogin_rate = 5\nmatch = application_name:bulky\n")
    same(weir.value("SELECT 1"), 1, "calm")
    storm = [in_thread(lambda: weir.connect(application_name="bulky", connect_timeout=60))
             for _ in range(60)]
    longest = 0.0
    for _ in range(20):
        seconds, value = timed(lambda: weir.value("SELECT 1"))
        same(value, 1, "a user's answer")
        longest = max(longest, seconds)
    in_n = len([1 for row in weir.console("SHOW CLIENTS") if row["application_name"] == "bulky"])
    t.note(f"longest user login and query {longest * 1000:.0f} ms, {in_n} of 60 were in by then")
    holds(in_n < 60, "all of the storm were let in at once")
    for login in storm:
        login.get(40)
    same(weir.value("SELECT 1"), 1, "afterwards")


@case(beyond="it lets in as many as come")
def silent_logins_of_others_keep_nobody_out(t):
    """Those who begin a login and never end it come from other addresses: one turn of theirs passes
    before a user's."""
    weir = t.weir(max_client_logins=4, client_login_timeout=60, auth_type="md5",
                  userlist={"app": "password"})
    silent = []
    for i in range(200):
        sock = socket.socket()
        sock.bind((f"127.0.0.{2 + i % 4}", 0))
        sock.connect(weir.tcp)
        sock.send(raw.startup(user="app", database="postgres"))
        silent.append(sock)
    seconds, value = timed(lambda: weir.value("SELECT 1", user="app", password="password"))
    t.note(f"a user's login and query: {seconds:.1f} s")
    same(value, 1, "a user's answer")
    holds(seconds < 5, f"{seconds:.1f} s for a login")
    for sock in silent:
        sock.close()
