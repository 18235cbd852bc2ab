"""Cancels on their way to PostgreSQL: that cannot be sent, that nobody takes, that come early."""
import re
import socket
import threading
import time

import raw
from harness import case, free_port, holds, same, wait_until

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
