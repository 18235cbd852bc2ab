"""Pacing: what a class may read a second, of results of all kinds, and who is never held back."""
import hashlib
import re
import shutil
import socket
import subprocess
import time

import raw
from harness import Skip, case, give_away, holds, in_thread, same, wait_until
from it_tls import Certificates

BEYOND = "it knows no classes"
RATE = 2 << 20
SLOW = (f"[class slow]\npriority = 5\nbyte_rate = {RATE}\nmax = 100%\n"
        "match = application_name:slow*\n")
ROW = "repeat('0123456789abcdef', 64)"  # 1 KiB


def shown(weir, name="slow"):
    return next(row for row in weir.console("SHOW CLASSES") if row["class"] == name)


def rows(mib):
    return f"SELECT {ROW} FROM generate_series(1, {mib * 1024})"


class Reader:
    """Reads an answer in a thread of its own and counts its bytes."""

    def __init__(self, weir, sql, before=(), **params):
        self.client = weir.raw(timeout=120, **{"application_name": "slow", **params})
        for statement in before:
            self.client.query(statement)
        self.bytes_n, self.kinds, self.error, self.digest = 0, "", None, hashlib.md5()
        self.client.send(raw.query(sql))
        self.thread = in_thread(self.read)

    def read(self):
        while True:
            kind, body = self.client.next()
            if kind == "E":
                self.error = raw.error_fields(body)
            if kind in "dD":
                self.bytes_n += len(body)
                self.digest.update(body)
            if kind == "Z":
                return


def paced(weir, n=1, name="slow"):
    wait_until(f"{n} results are paced", lambda: shown(weir, name)["paced"] == n, 20)


def rate_over(weir, seconds, name="slow"):
    """Bytes a second its results moved, by pgweir's own count."""
    start, before = time.monotonic(), shown(weir, name)["paced_bytes"]
    time.sleep(seconds)
    moved = shown(weir, name)["paced_bytes"] - before
    return moved / (time.monotonic() - start)


def is_held(t, weir, seconds=3):
    rate = rate_over(weir, seconds)
    t.note(f"{rate / (1 << 20):.1f} of {RATE >> 20} MiB/s")
    holds(RATE * 0.3 < rate < RATE * 1.6, f"{rate:.0f} bytes a second of {RATE}")


CURSOR = ("BEGIN", f"DECLARE c NO SCROLL CURSOR FOR {rows(200)}")
KINDS = {
    "copy": (f"COPY ({rows(200)}) TO STDOUT", ()),
    "select": (rows(200), ()),
    "cursor": ("FETCH ALL FROM c", CURSOR),
}


@case(beyond=BEYOND, each=KINDS)
def a_result_is_held(t, kind):
    sql, before = kind
    weir = t.weir(text=SLOW)
    Reader(weir, sql, before)
    paced(weir)
    is_held(t, weir)
    row = shown(weir)
    holds(row["paced_held_us"] > 0, "no time was held")
    holds(row["paced_age_us"] > 2_000_000, f"age of the transaction: {row['paced_age_us']}")
    holds("pgweir_class_paced_bytes_total{" in weir.status("/metrics")[1], "no metric")


@case(beyond=BEYOND, each={"its own": True, "a user's": False})
def the_kernel_takes_in_little(t, is_own):
    """Also where a server was opened for a class that is never paced."""
    if not shutil.which("ss"):
        raise Skip("no ss here, which tells of the buffers of sockets")
    weir = t.weir(text=SLOW, default_pool_size=1)
    same(weir.value("SELECT 1", application_name="slow" if is_own else "psql"), 1, "opened")
    same(weir.value("SELECT 1", application_name="slow"), 1, "used by the class that is paced")
    said = subprocess.run(["ss", "-tnmH", "state", "established", "dst", f"127.0.0.1:{t.pg.port}"],
                          capture_output=True, text=True, check=True).stdout
    same(re.findall(r",rb(\d+),", said), [str(2 * (256 << 10))], "receive buffers")


@case(beyond=BEYOND)
def a_result_is_held_in_session_mode(t):
    weir = t.weir(text=SLOW, pool_mode="session")
    # What a session wrote in an earlier transaction has nothing to do with it.
    Reader(weir, rows(200), ["CREATE TEMP TABLE x AS SELECT 1 AS i", "INSERT INTO x VALUES (2)"])
    paced(weir)
    is_held(t, weir)


@case(beyond=BEYOND)
def loops_share_one_rate(t):
    weir = t.weir(text=SLOW, workers=4)
    for _ in range(8):
        Reader(weir, f"COPY ({rows(50)}) TO STDOUT")
    paced(weir, 8)
    is_held(t, weir, 4)
    servers = [row for row in weir.console("SHOW SERVERS") if row["application_name"] == "slow"]
    same(len(servers), 8, "servers")


@case(beyond=BEYOND)
def a_result_is_held_over_tls(t):
    certificates = Certificates(t.dir)
    pg = t.own_postgres(ssl="on")
    for name in ("key", "crt"):
        path = pg.dir / "data" / f"server.{name}"
        path.write_bytes(certificates.path(f"server.{name}").read_bytes())
        path.chmod(0o600)
        give_away(path)
    pg.start()
    weir = t.weir(text=SLOW, pg=pg, server_tls_sslmode="require")
    reader = Reader(weir, f"COPY ({rows(200)}) TO STDOUT")
    paced(weir)
    is_held(t, weir)
    small = Reader(weir, f"COPY ({rows(4)}) TO STDOUT")
    small.thread.get(30)
    same(small.error, None, "error")
    same(small.digest.hexdigest(), digest_of(4), "content")
    same(reader.error, None, "error of the other")


def digest_of(mib):
    return hashlib.md5((("0123456789abcdef" * 64 + "\n") * (mib * 1024)).encode()).hexdigest()


@case(beyond=BEYOND)
def what_is_held_arrives_whole(t):
    weir = t.weir(text=SLOW, workers=2)
    readers = [Reader(weir, f"COPY ({rows(2)}) TO STDOUT") for _ in range(3)]
    for reader in readers:
        reader.thread.get(60)
        same(reader.error, None, "error")
        same(reader.digest.hexdigest(), digest_of(2), "content")
    wait_until("nothing is paced any more", lambda: shown(weir)["paced"] == 0)
    row = shown(weir)
    # What a loop takes in at once may come before it is known what the statement is.
    holds(row["paced_bytes"] >= 3 * (2 << 20) - 3 * (256 << 10), f"paced: {row['paced_bytes']}")


@case(beyond=BEYOND)
def reload_lifts_the_limit(t):
    weir = t.weir(text=SLOW)
    reader = Reader(weir, f"COPY ({rows(100)}) TO STDOUT")
    paced(weir)
    weir.text = SLOW.replace(f"byte_rate = {RATE}", "byte_rate = 0")
    weir.write()
    weir.console("RELOAD")
    reader.thread.get(20)  # 50 s at the former rate
    same(reader.digest.hexdigest(), digest_of(100), "content")
    same(shown(weir)["paced"], 0, "results paced")


@case(beyond=BEYOND)
def a_demoted_result_is_held(t):
    weir = t.weir(text=f"[class interactive]\ndemote_bytes = {4 << 20}\ndemote_to = slow\n" + SLOW)
    Reader(weir, rows(200), application_name="psql")
    paced(weir)
    is_held(t, weir)


# ---- who is never held back --------------------------------------------------------------------

WRITERS = {
    "returning": (f"INSERT INTO w SELECT {ROW} FROM generate_series(1, 20480) RETURNING t", ()),
    "wrote": (f"COPY ({rows(20)}) TO STDOUT", ("BEGIN", "INSERT INTO w VALUES ('x')")),
    "locks": (rows(20), ("BEGIN", "SELECT * FROM w FOR UPDATE")),
}


@case(beyond=BEYOND, each=WRITERS)
def a_writer_is_not_held(t, kind):
    sql, before = kind
    weir = t.weir(text=SLOW.replace(str(RATE), str(64 << 10)))
    name = t.pg.database("pace_" + next(key for key in WRITERS if WRITERS[key] is kind))
    with t.pg.connect(name) as direct:
        direct.execute("CREATE TABLE w (t text)")
    reader = Reader(weir, sql, before, database=name, user="postgres")
    reader.thread.get(40)  # 5 minutes at its class's rate
    same(reader.error, None, "error")
    holds(reader.bytes_n > 20 << 20, f"{reader.bytes_n} bytes")


@case(beyond=BEYOND)
def a_dump_is_held_for_all_its_locks(t):
    weir = t.weir(text=f"[class backup]\nbyte_rate = {RATE}\n")
    name = t.pg.database("pace_dump")
    with t.pg.connect(name) as direct:
        direct.execute(f"CREATE TABLE big AS SELECT {ROW} AS t FROM generate_series(1, 204800)")
    dump = t.spawn([t.pg.bin / "pg_dump", "-f", "/dev/null", "-d", weir.dsn(dbname=name)])
    paced(weir, name="backup")
    rate = rate_over(weir, 3, "backup")
    holds(RATE * 0.3 < rate < RATE * 1.6, f"{rate:.0f} bytes a second of {RATE}")
    dump.kill()


@case(beyond=BEYOND)
def statement_timeout_does_not_fire_for_it(t):
    weir = t.weir(text=SLOW)
    for before in (["SET statement_timeout = '6s'"],
                   ["BEGIN", "SET LOCAL statement_timeout TO '6.5s'"],
                   ["SELECT set_config('statement_timeout', '6000ms', false)"]):
        paced_before = shown(weir)["paced_bytes"]
        reader = Reader(weir, f"COPY ({rows(20)}) TO STDOUT", before)
        reader.thread.get(40)  # 10 s at its class's rate
        same(reader.error, None, f"error after {before}")
        same(reader.digest.hexdigest(), digest_of(20), "content")
        holds(shown(weir)["paced_bytes"] > paced_before + RATE, f"never held back after {before}")


@case(beyond=BEYOND)
def base_backup_is_held_and_replication_is_not(t):
    pg = t.own_postgres(wal_keep_size="512MB")
    pg.start()
    backup = f"[class backup]\nbyte_rate = {2 * RATE}\nmatch = application_name:pg_*\n"
    weir = t.weir(text=backup, pg=pg)
    wal = t.dir / "wal"
    wal.mkdir()
    receiver = t.spawn([pg.bin / "pg_receivewal", "-D", wal, "-d", weir.dsn()])
    base = t.spawn([pg.bin / "pg_basebackup", "-D", t.dir / "base", "-c", "fast", "-X", "none",
                    "-d", weir.dsn()])
    paced(weir, name="backup")
    rate = rate_over(weir, 2, "backup")
    t.note(f"{rate / (1 << 20):.1f} of {2 * RATE >> 20} MiB/s")
    holds(rate < 2 * RATE * 1.6, f"{rate:.0f} bytes a second of {2 * RATE}")
    with pg.connect() as direct:
        direct.execute(f"CREATE TABLE big AS SELECT {ROW} AS t FROM generate_series(1, 120000)")
        lsn = direct.execute("SELECT pg_current_wal_flush_lsn()").fetchone()[0]

        def is_there():
            return direct.execute("SELECT sent_lsn >= %s FROM pg_stat_replication "
                                  "WHERE state = 'streaming'", (lsn,)).fetchone() == (True,)
        wait_until("the log has been received", is_there, 20)
    receiver.kill()
    receiver.wait()
    same(base.poll(), None, "pg_basebackup is over: nothing was shown")
    same(base.wait(50), 0, "exit status of pg_basebackup")
    holds((t.dir / "base" / "backup_manifest").exists(), "no manifest")


# ---- its end -----------------------------------------------------------------------------------


@case(beyond=BEYOND)
def a_cancel_ends_it_at_once(t):
    weir = t.weir(text=SLOW.replace(str(RATE), str(64 << 10)))
    reader = Reader(weir, f"COPY ({rows(500)}) TO STDOUT")
    paced(weir)
    with raw.Raw(weir.tcp, login=False) as canceller:
        canceller.send(raw.request(80877102, reader.client.key))
        canceller.until_closed()
    reader.thread.get(10)
    same(reader.error and reader.error["C"], "57014", "SQLSTATE")
    same(shown(weir)["paced"], 0, "results paced")
    same(reader.client.query("SELECT 1"), [["1"]], "the client goes on")


@case(beyond=BEYOND)
def a_client_that_vanishes_frees_the_server(t):
    weir = t.weir(text=SLOW.replace(str(RATE), str(64 << 10)), default_pool_size=1)
    reader = Reader(weir, f"COPY ({rows(500)}) TO STDOUT")
    paced(weir)
    reader.client.sock.shutdown(socket.SHUT_RDWR)
    with weir.connect() as other:
        same(other.execute("SELECT 1").fetchone()[0], 1, "the server serves another")
    same(shown(weir)["paced"], 0, "results paced")


@case(beyond=BEYOND)
def a_slow_client_and_a_limit_do_not_mix(t):
    """Two reasons not to read: the end of one is not the end of the other."""
    weir = t.weir(text=SLOW)
    with weir.raw(timeout=60, application_name="slow") as client:
        client.send(raw.query(f"COPY ({rows(100)}) TO STDOUT"))
        client.next()
        paced(weir)
        # Nobody reads. What fits into the sockets goes; then its client alone holds it back.
        peak = -1

        def stands():
            nonlocal peak
            before, peak = peak, shown(weir)["paced_bytes"]
            return before == peak
        wait_until("it stands", stands, 60, every=3)
        weir.text = SLOW.replace(f"byte_rate = {RATE}", "byte_rate = 0")
        weir.write()
        weir.console("RELOAD")
        digest = hashlib.md5()
        for kind, body in client.until_ready():
            if kind == "d":
                digest.update(body)
        same(digest.hexdigest(), digest_of(100), "content")
