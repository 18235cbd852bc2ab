"""Bytes nobody sane would send. The cost is bounded, and others do not notice."""
import os
import random
import socket
import struct
import time

import raw
from harness import Skip, case, holds, in_thread, memory_kb, same, wait_until

LOGIN = raw.startup(user="postgres", database="postgres")

BEFORE_LOGIN = {
    "nothing": b"", "one byte": b"\0", "length 0": struct.pack("!i", 0),
    "length 3": struct.pack("!i", 3), "length 4": struct.pack("!i", 4),
    "negative length": struct.pack("!i", -1), "length 2 GB": struct.pack("!i", 0x7fffffff),
    "startup of 1 MB": struct.pack("!ii", 1 << 20, raw.PROTOCOL_3_0) + b"a" * 70000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "V2": struct.pack("!ii", 296, 2 << 16) + b"x" * 288, "V4": struct.pack("!ii", 8, 4 << 16),
    "no user": raw.startup(database="postgres"), "no terminator": LOGIN[:-1] + b"x",
    "odd strings": struct.pack("!ii", 13, raw.PROTOCOL_3_0) + b"user\0",
    "bytes after the terminator": struct.pack("!i", len(LOGIN) + 3) + LOGIN[4:] + b"\0\0\0",
    "empty names": struct.pack("!ii", 11, raw.PROTOCOL_3_0) + b"\0\0\0",
    "short cancel": struct.pack("!ii", 10, raw.CANCEL_REQUEST) + b"xx",
    "huge cancel": struct.pack("!ii", 100000, raw.CANCEL_REQUEST),
    "message first": raw.query("SELECT 1"), "zeroes": b"\0" * 5000, "ones": b"\xff" * 5000,
    "many SSLRequests": raw.request(raw.SSL_REQUEST) * 20,
    "2000 parameters": raw.startup(user="postgres", **{f"p{i}": "x" for i in range(2000)}),
    "control characters": raw.startup(user="po\x01st\x7f\n", database="\r\n"),
}


LENIENT = {"no terminator", "bytes after the terminator"}  # PgBouncer 1.18 lets these in


@case(each={name: name for name in BEFORE_LOGIN})
def before_login(t, name):
    if name in LENIENT and not t.is_weir:
        raise Skip("beyond PgBouncer: it lets them in")
    junk = BEFORE_LOGIN[name]
    weir = t.weir(client_login_timeout=1)
    with weir.raw() as other, raw.Raw(weir.tcp, login=False) as client:
        client.send(junk)
        said = client.until_closed(6)
        holds(said is not None, "neither refused nor timed out")
        # Unknown parameters may be taken for settings, which PostgreSQL is to judge later.
        holds(name == "2000 parameters" or raw.message("R", b"\0\0\0\0") not in said, "let in")
        same(other.query("SELECT 1"), [["1"]], "another client")


AFTER_LOGIN = {
    "unknown type": raw.message("z", b"abc"), "zero type": b"\0\0\0\0\x04",
    "length 3": b"Q\0\0\0\x03", "negative length": b"Q\xff\xff\xff\xff",
    "query without NUL": raw.message("Q", b"SELECT 1"),
    "Parse cut short": raw.message("P", b"name"), "Bind cut short": raw.message("B", b"a\0b\0\0"),
    "Bind with lies": raw.message("B", b"\0\0" + struct.pack("!hhi", 0, 1, 0x7fffffff)),
    "negative count": raw.message("B", b"\0\0" + struct.pack("!h", -5)),
    "Describe of nothing": raw.message("D", b""), "Close of nonsense": raw.message("C", b"Xx\0"),
    "Execute cut short": raw.message("E", b"portal"), "password": raw.message("p", b"secret\0"),
    "CopyData out of place": raw.message("d", b"x" * 1000) + raw.message("c"),
    "server's messages": raw.message("Z", b"I") + raw.message("T", b"\0\0"),
    "function call": raw.message("F", struct.pack("!ihhh", 1, 0, 0, 0)),
    "garbage": bytes(range(256)) * 20, "startup again": LOGIN,
    "SSLRequest": raw.request(raw.SSL_REQUEST),
    "half a message": b"Q\0\0\1\0SELECT",
}


@case(each=AFTER_LOGIN)
def after_login(t, junk):
    """PostgreSQL may answer by an error or close; the next client must not meet any of it."""
    weir = t.weir(default_pool_size=1)
    for end in (b"", raw.sync(), raw.terminate()):
        with raw.Raw(weir.tcp) as client, weir.raw() as other:
            client.send(junk, end)
            client.sock.settimeout(0.2)
            try:
                while client.sock.recv(65536):
                    pass
            except OSError:
                pass
            client.close()
            same(other.query("SELECT 'mine'"), [["mine"]], "the next client on that server")
    holds(t.pg.servers_n() <= 1, "more servers than the pool allows")


@case(seconds=90, beyond="a spoilt message may disconnect a client on the same pool")
def random_bytes_in_the_middle_of_a_session(t):
    weir = t.weir(default_pool_size=3)
    dice = random.Random(20240229)
    session = (raw.query("SELECT 1") + raw.parse("s", "SELECT $1::text") + raw.describe("S", "s")
               + raw.bind("", "s", ["x"]) + raw.execute() + raw.sync() + raw.query("SELECT 2"))
    with weir.raw() as other:
        for _ in range(t.sized(300, 60)):
            spoilt = bytearray(session)
            for _ in range(dice.choice((1, 1, 2, 5, 20))):
                spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
            with raw.Raw(weir.tcp) as client:
                client.send(bytes(spoilt[:dice.randrange(1, len(spoilt))]))
                client.sock.settimeout(0.01)
                try:
                    client.sock.recv(65536)
                except OSError:
                    pass
            same(other.query("SELECT 'mine'"), [["mine"]], "another client")
    wait_until("no client is left behind", lambda: weir.pool()["cl_active"]
               + weir.pool()["cl_waiting"] <= 1, 10)


@case()
def a_client_that_sends_and_never_reads(t):
    weir = t.weir(default_pool_size=2)
    before = memory_kb(weir.pid)
    with raw.Raw(weir.tcp) as client, weir.raw() as other:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.setblocking(False)
        end, unit = time.monotonic() + t.sized(2, 1), raw.query("SELECT repeat('x', 100000)") * 10
        sent = 0
        while time.monotonic() < end:
            try:
                sent += client.sock.send(unit[sent % len(unit):])
            except BlockingIOError:
                same(other.query("SELECT 1"), [["1"]], "another client")
                time.sleep(0.01)
        grown = memory_kb(weir.pid) - before
        t.note(f"{sent >> 10} KiB sent, {grown} kB more memory")
        holds(not t.scale or grown < 20000, f"{grown} kB for one client")


@case()
def a_message_of_two_gigabytes_is_announced(t):
    weir = t.weir(max_packet_size=1 << 30)
    before = memory_kb(weir.pid)
    with raw.Raw(weir.tcp) as client:
        for kind in "QPBDE":
            client.send(kind.encode() + struct.pack("!i", 0x7ffffff0) + b"x" * 100000)
            break
        holds(memory_kb(weir.pid) - before < 10000, "memory was taken on somebody's word")
    same(weir.value("SELECT 1"), 1, "others")


@case(seconds=120)
def ten_thousand_connects_that_never_log_in(t):
    """Half of them say nothing, the others begin a login. The cost is bounded, service goes on."""
    import resource
    count = t.sized(10000, 1000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, hard - 500)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    weir = t.weir(max_client_conn=count + 100, client_login_timeout=60, auth_type="md5",
                  userlist={"app": "password"}, listen_backlog=1024)
    sockets = []
    try:
        with weir.connect(user="app", password="password") as client:
            client.execute("SELECT 1")
            before, longest = memory_kb(weir.pid), 0.0
            for i in range(count):
                # One source address has 28,000 ports at most; several keep clear of TIME_WAIT.
                sock = socket.socket()
                sock.bind((f"127.0.0.{2 + i % 8}", 0))
                sock.connect(weir.tcp)
                if i % 2:
                    login = raw.startup(user="app", database="postgres")
                    sock.send(login[:30] if i % 4 == 1 and t.is_weir else login)
                sockets.append(sock)
                if i % 500 == 0:
                    began = time.monotonic()
                    client.execute("SELECT 1")
                    longest = max(longest, time.monotonic() - began)
            # By psql: psycopg waits by select(), which knows no descriptor above 1023.
            same(weir.psql("SELECT 1", user="app", password="password")[1], "1\n",
                 "a login meanwhile")
            each = (memory_kb(weir.pid, "VmHWM") - before) * 1024 / count
            t.note(f"{each:.0f} bytes each, longest query {longest * 1000:.0f} ms")
            holds(not t.scale or each < 4096, f"{each:.0f} bytes for each connection")
            holds(longest < 1.5, "queries of others wait")
    finally:
        for sock in sockets:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until("they are forgotten", lambda: len(os.listdir(f"/proc/{weir.pid}/fd")) < 200, 20)
    same(weir.value("SELECT 1", user="app", password="password"), 1, "service afterwards")


@case(beyond="its own limit is max_client_conn alone", seconds=60)
def connects_beyond_every_limit_are_refused_not_queued(t):
    weir = t.weir(max_client_conn=50, client_login_timeout=5)
    with weir.connect() as client:
        client.execute("SELECT 1")
        flood = [raw.Raw(weir.tcp, login=False) for _ in range(t.sized(500, 100))]
        for i, one in enumerate(flood):
            one.send(LOGIN if i % 2 else b"")
        same(client.execute("SELECT 1").fetchone()[0], 1, "a client inside")
        holds(len(os.listdir(f"/proc/{weir.pid}/fd")) < 600, "descriptors")
        for one in flood:
            one.close()
    wait_until("service", weir.answers)


@case(beyond="1.18 knows 3.0 only")
def protocol_versions_and_extensions(t):
    weir = t.weir()
    with raw.Raw(weir.tcp, login=False) as client:
        client.send(raw.startup(version=(3 << 16) | 9, user="postgres", database="postgres",
                                **{"_pq_.one": "1", "_pq_.two": "2"}))
        got = client.until_ready()
        answers = [body for kind, body in got if kind == "v"]
        same(len(answers), 1, "NegotiateProtocolVersion")
        version, count = struct.unpack_from("!ii", answers[0])
        holds((version & 0xffff) in (0, 2), f"offers {version:#x}")
        same((count, sorted(answers[0][8:].split(b"\0")[:2])), (2, [b"_pq_.one", b"_pq_.two"]),
             "options it does not know")
        same(client.query("SELECT 1"), [["1"]], "session")


@case(beyond="1.18 knows 3.0 only")
def protocol_3_2(t):
    weir = t.weir()
    with weir.raw(version=raw.PROTOCOL_3_2) as client:
        negotiated = [struct.unpack_from("!i", b)[0] for k, b in client.login_messages if k == "v"]
        holds(negotiated in ([], [raw.PROTOCOL_3_0]), f"negotiated {negotiated}")
        holds(4 < len(client.key) <= 4 + 256, f"a key of {len(client.key)} bytes")
        client.send(raw.query("SELECT pg_sleep(20)"))
        wait_until("it runs", lambda: t.pg.running_n("pg_sleep"))
        with raw.Raw(weir.tcp, login=False) as other:
            other.send(raw.request(raw.CANCEL_REQUEST, client.key))
        error = [raw.error_fields(b)["C"] for k, b in client.until_ready(errors="keep") if k == "E"]
        same(error, ["57014"], "cancelled by the long key")


@case()
def gssenc_and_ssl_are_declined_once_each(t):
    weir = t.weir()
    for first, second in ((raw.SSL_REQUEST, raw.GSSENC_REQUEST),
                          (raw.GSSENC_REQUEST, raw.SSL_REQUEST)):
        with raw.Raw(weir.tcp, login=False) as client:
            for code in (first, second):
                client.send(raw.request(code))
                same(client.bytes(1), b"N", "answer")
            client.send(LOGIN)
            client.until_ready()
            same(client.query("SELECT 1"), [["1"]], "session")


@case(seconds=60)
def noise_beside_work(t):
    """Hostile connections in a loop while pgbench-like clients work: no answer may go astray."""
    weir = t.weir(default_pool_size=3, client_login_timeout=2)
    stop = []

    def noise(seed):
        dice = random.Random(seed)
        junk = list(BEFORE_LOGIN.values()) + [LOGIN + part for part in AFTER_LOGIN.values()]
        while not stop:
            try:
                with raw.Raw(weir.tcp, login=False, timeout=0.05) as client:
                    client.send(dice.choice(junk))
                    if dice.random() < 0.5:
                        client.sock.recv(4096)
            except OSError:
                pass

    def work(i):
        with raw.Raw(weir.tcp) as client:
            for n in range(t.sized(300, 50)):
                tag = f"c{i}n{n}"
                same(client.query(f"SELECT '{tag}'"), [[tag]], "simple")
                same(client.rows(raw.parse("", "SELECT $1::text"), raw.bind("", "", [tag]),
                                 raw.execute(), raw.sync()), [[tag]], "extended")

    noises = [in_thread(noise, seed) for seed in range(2)]
    for thread in [in_thread(work, i) for i in range(5)]:
        thread.get(50)
    stop.append(True)
    for thread in noises:
        thread.get()


@case(each={kind: kind for kind in "dQPBEFfX"})
def a_message_in_place_of_the_password(t, kind):
    """Only its header comes: of such messages the body is not waited for."""
    weir = t.weir(auth_type="md5")
    with raw.Raw(weir.tcp, login=False) as client:
        client.send(raw.startup(user="postgres", database="postgres"))
        same(client.next()[0], "R", "asked for a password")
        client.send(kind.encode() + struct.pack("!i", 1000))
        holds(client.until_closed(6) is not None, "not closed")
    with raw.Raw(weir.tcp, login=False) as other:
        other.send(raw.startup(user="postgres", database="postgres"))
        same(other.next()[0], "R", "pgweir lives")
