"""Cancels on their way to PostgreSQL: that cannot be sent, that nobody takes, that come early."""
import os
import re
import socket
import subprocess
import threading
import time

import raw
from harness import Skip, case, free_port, holds, same, wait_until
from it_cancel import send_cancel

BEYOND = "it knows no classes"
BULK = "[class bulk]\nmatch = application_name:bulky\n"
SAYS_CANCELLED = r'pgweir: statement of class "bulk" was cancelled'


class Gate:
    """Stands before a PostgreSQL. Connections that are through stay, and what is sent on them may
    be held up; new ones are let through, refused, or accepted and left alone."""

    def __init__(self, pg):
        self.pg, self.port, self.listener = pg, free_port(), None
        self.silent, self.mute, self.alone = False, False, []
        self.open()

    def open(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def refuse(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self.silent:
                self.alone.append(near)
                continue
            far = socket.create_connection(("127.0.0.1", self.pg.port))
            for a, b, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.pipe, args=(a, b, up), daemon=True).start()

    def let_go(self):
        """Who was left alone is closed, as PostgreSQL does when it has signalled."""
        self.silent = False
        for one in self.alone:
            one.close()
        self.alone = []

    def pipe(self, source, target, up):
        try:
            while got := source.recv(1 << 16):
                while up and self.mute:
                    time.sleep(0.01)
                target.sendall(got)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def behind(t, gate, **settings):
    settings = {"probe_interval": 0, **settings}
    return t.weir(text=BULK + settings.pop("more", ""), databases={
        "*": f"host=127.0.0.1 port={gate.port}"}, **settings)


def ends_in(client):
    """The fields of the error a statement ends in."""
    got = client.until_ready(errors="return")
    return next(raw.error_fields(body) for kind, body in got if kind == "E")


def shown(weir, name="bulk"):
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == name)


@case(beyond=BEYOND)
def a_cancel_of_ours_that_cannot_be_sent_is_tried_again(t):
    gate = Gate(t.pg)
    weir = behind(t, gate)
    client = weir.raw(application_name="bulky", timeout=30)
    client.send(raw.query("SELECT pg_sleep(60)"))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    gate.refuse()
    weir.console("CANCEL bulk")
    wait_until("it is marked", lambda: shown(weir)["cancelled"] == 1, 2)
    time.sleep(1)  # so that it has been refused
    same(t.pg.running_n("pg_sleep"), 1, "statements that run")
    gate.open()
    fields = ends_in(client)
    same(fields["C"], "57014", "SQLSTATE")
    holds(re.search(SAYS_CANCELLED, fields["M"]), fields["M"])
    same(shown(weir)["cancelled"], 1, "cancelled")
    same(client.query("SELECT 1"), [["1"]], "it goes on")


def german(t):
    """A PostgreSQL that can speak German, or none."""
    places = t.dir / "locales"
    places.mkdir()
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", places / "de_DE.UTF-8"],
                          capture_output=True, check=False)
    if made.returncode:
        raise Skip("no locale can be made here")
    places.chmod(0o755)
    pg = t.own_postgres()
    os.environ["LOCPATH"] = str(places)
    try:
        pg.start()
    finally:
        del os.environ["LOCPATH"]
    return pg


@case(beyond=BEYOND, seconds=120)
def a_timeout_of_another_language_is_not_taken_for_our_cancel(t):
    try:
        pg = german(t)
    except FileNotFoundError as missing:
        raise Skip("no localedef here") from missing
    gate = Gate(pg)
    weir = behind(t, gate)
    client = weir.raw(application_name="bulky", timeout=30)
    try:
        client.query("SET lc_messages = 'de_DE.UTF-8'")
    except raw.ServerError as error:
        raise Skip("no German here") from error
    for silent in (False, True):
        client.query("BEGIN")
        client.query("SET LOCAL statement_timeout = 1500")
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_until("it runs", lambda: pg.running_n("pg_sleep"))
        gate.silent = silent
        if not silent:
            gate.refuse()
        weir.console("CANCEL bulk")
        fields = ends_in(client)
        same(fields["C"], "57014", "SQLSTATE")
        if "timeout" in fields["M"]:
            raise Skip(f"no German here: {fields['M']}")
        holds("pgweir" not in fields["M"], fields["M"])
        if not silent:
            gate.open()
            client.query("ROLLBACK")
    t.note(fields["M"])
    gate.let_go()
    client.query("ROLLBACK")
    client.send(raw.query("SELECT pg_sleep(60)"))
    wait_until("it runs", lambda: pg.running_n("pg_sleep"))
    weir.console("CANCEL bulk")
    holds(re.search(SAYS_CANCELLED, ends_in(client)["M"]), "our own cancel says so")


@case(beyond=BEYOND)
def silent_cancels_do_not_block_the_others_for_ever(t):
    """Also where the operator has set no limit to them: not while others wait for their places."""
    gate = Gate(t.pg)
    weir = behind(t, gate, cancel_wait_timeout=0)
    clients = [weir.raw(timeout=40) for _ in range(9)]
    for client in clients:
        client.send(raw.query("SELECT pg_sleep(25)"))
    wait_until("all run", lambda: t.pg.running_n("pg_sleep") == 9)
    gate.silent = True
    asking = []
    for i, client in enumerate(clients):
        asking.append(raw.Raw(weir.tcp, login=False))
        asking[-1].send(raw.request(raw.CANCEL_REQUEST, client.key))
        if i < 8:
            wait_until("it is on its way", lambda n=i + 1: len(gate.alone) == n)
    gate.silent = False
    began = time.monotonic()
    same(ends_in(clients[8])["C"], "57014", "SQLSTATE")
    t.note(f"after {time.monotonic() - began:.1f} s")
    holds(time.monotonic() - began < 15, "the ninth waited for those that nobody answers")


@case(beyond=BEYOND)
def a_cancel_for_what_waits_behind_our_own_is_kept(t):
    """A statement of ours is culled and PostgreSQL has not done with the request: the next one has
    not been sent, and its cancel comes."""
    gate = Gate(t.pg)
    weir = behind(t, gate, pool_mode="session")
    client = weir.raw(application_name="bulky", timeout=30)
    client.send(raw.query("SELECT pg_sleep(1.5)"))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    gate.silent = True
    weir.console("CANCEL bulk")
    client.until_ready()
    client.send(raw.query("SELECT pg_sleep(60), 'next'"))
    time.sleep(0.3)  # so that it has come
    same(t.pg.running_n("next"), 0, "statements sent")
    send_cancel(weir, client.key)
    gate.let_go()
    began = time.monotonic()
    fields = ends_in(client)
    same((fields["C"], "user request" in fields["M"]), ("57014", True), "its answer")
    holds(time.monotonic() - began < 3, "it took too long")
    same(client.query("SELECT 1"), [["1"]], "it goes on")


@case(beyond="^C does nothing while settings are read back")
def a_cancel_while_settings_are_read_back_is_kept(t):
    gate = Gate(t.pg)
    weir = behind(t, gate, default_pool_size=1)
    client = weir.raw()
    client.send(raw.query("SELECT set_config('work_mem', '23456kB', false), pg_sleep(0.5)"))
    wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
    gate.mute = True
    client.until_ready()
    client.send(raw.query("CREATE TABLE never_made_either (n int)"))
    time.sleep(0.3)  # so that it has come
    send_cancel(weir, client.key)
    time.sleep(0.3)  # so that this has come
    gate.mute = False
    fields = ends_in(client)
    same((fields["C"], "user request" in fields["M"]), ("57014", True), "its answer")
    same(client.query("SHOW work_mem"), [["23456kB"]], "it goes on")
    same(weir.value("SELECT count(*) FROM pg_class WHERE relname = 'never_made_either'"), 0,
         "tables")
