"""TLS towards clients and towards PostgreSQL, with certificates made for the run."""
import ssl
import time

import psycopg

import raw
from harness import Failed, case, give_away, holds, in_thread, output_of, refused, same


class Certificates:
    """A CA, a second CA nobody trusts, and a key and certificate for localhost under the first."""

    def __init__(self, directory):
        self.dir = directory / "tls"
        self.dir.mkdir()
        self.authority("ca")
        self.authority("stranger")
        self.issue("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.issue("misnamed", "/CN=elsewhere", "subjectAltName=DNS:elsewhere.example")
        self.issue("app", "/CN=app", "extendedKeyUsage=clientAuth")
        for path in [self.dir, *self.dir.iterdir()]:
            give_away(path)

    def path(self, name):
        return self.dir / name

    def openssl(self, *args):
        output_of(["openssl", *args])

    def authority(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-days", "2", "-subj", f"/CN=test {name}",
                     "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"))

    def issue(self, name, subject, extension, authority="ca"):
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        extensions.write_text(extension + "\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", subject, "-keyout", self.path(f"{name}.key"), "-out", request)
        self.openssl("x509", "-req", "-in", request, "-days", "2", "-CAcreateserial",
                     "-CA", self.path(f"{authority}.crt"), "-CAkey", self.path(f"{authority}.key"),
                     "-extfile", extensions, "-out", self.path(f"{name}.crt"))
        self.path(f"{name}.key").chmod(0o600)


def tls_weir(t, certificates=None, name="server", **settings):
    c = certificates or Certificates(t.dir)
    weir = t.weir(**{"client_tls_sslmode": "allow", "client_tls_key_file": c.path(f"{name}.key"),
                     "client_tls_cert_file": c.path(f"{name}.crt"),
                     "client_tls_ca_file": c.path("ca.crt"), **settings})
    return weir, c


@case()
def every_sslmode_of_a_client(t):
    weir, c = tls_weir(t)
    for mode in ("disable", "allow", "prefer", "require"):
        with weir.connect(sslmode=mode) as client:
            same(client.pgconn.ssl_in_use, mode in ("prefer", "require"), f"TLS with {mode}")
            same(client.execute("SELECT 1").fetchone()[0], 1, mode)
    for mode in ("verify-ca", "verify-full"):
        with weir.connect(sslmode=mode, sslrootcert=str(c.path("ca.crt"))) as client:
            same(client.pgconn.ssl_in_use, True, mode)
        refused(lambda m=mode: weir.connect(sslmode=m, sslrootcert=str(c.path("stranger.crt"))),
                text="certificate verify failed")
    same(weir.value("SELECT 1", unix=True, sslmode="prefer"), 1, "Unix socket")


@case()
def verify_full_refuses_another_name(t):
    weir, c = tls_weir(t, name="misnamed")
    root = str(c.path("ca.crt"))
    same(weir.value("SELECT 1", sslmode="verify-ca", sslrootcert=root), 1, "verify-ca")
    refused(lambda: weir.connect(sslmode="verify-full", sslrootcert=root), text="does not match")


@case()
def tls_required_and_tls_off(t):
    weir, _ = tls_weir(t, client_tls_sslmode="require")
    refused(lambda: weir.connect(sslmode="disable"), text="SSL|TLS")
    same(weir.value("SELECT 1", sslmode="require"), 1, "with TLS")
    off = t.weir()
    refused(lambda: off.connect(sslmode="require"), text="SSL")
    same(off.value("SELECT 1", sslmode="prefer"), 1, "without")


@case()
def a_client_must_show_a_certificate_of_our_authority(t):
    weir, c = tls_weir(t, client_tls_sslmode="verify-full")
    c.issue("stranger_app", "/CN=app", "extendedKeyUsage=clientAuth", "stranger")

    def login(name):
        return weir.value("SELECT current_user::text", user="app", sslmode="require",
                          sslcert=str(c.path(f"{name}.crt")), sslkey=str(c.path(f"{name}.key")))

    same(login("app"), "app", "a good certificate")
    refused(lambda: login("stranger_app"))
    refused(lambda: weir.value("SELECT 1", user="app", sslmode="require"))
    same(login("app"), "app", "a good certificate again")


@case()
def plaintext_behind_sslrequest_is_refused(t):
    weir, _ = tls_weir(t)
    login = raw.startup(user="postgres", database="postgres")
    for behind in (login, b"x", login + raw.query("SELECT 1")):
        with raw.Raw(weir.tcp, login=False) as client:
            client.send(raw.request(raw.SSL_REQUEST), behind)
            got = client.until_closed()
            holds(got in (b"", b"S") or got[:1] == b"E",
                  f"answered {got!r} to bytes behind an SSLRequest")
    same(weir.value("SELECT 1", sslmode="require"), 1, "others go on")


def wrap_tls(session=None, box=None):
    """For raw.Raw(wrap=...): SSLRequest, then a TLS handshake of Python's own."""

    def wrap(sock):
        sock.sendall(raw.request(raw.SSL_REQUEST))
        same(sock.recv(1), b"S", "answer to SSLRequest")
        context = box.setdefault("context", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(sock, session=session)

    return wrap


@case(beyond="it offers no session resumption")
def sessions_are_resumed(t):
    weir, _ = tls_weir(t)
    box = {}
    with raw.Raw(weir.tcp, wrap=wrap_tls(None, box)) as client:
        same(client.query("SELECT 1"), [["1"]], "first")
        same(client.sock.session_reused, False, "first: resumed")
        session = client.sock.session
    with raw.Raw(weir.tcp, wrap=wrap_tls(session, box)) as client:
        same(client.query("SELECT 2"), [["2"]], "second")
        same(client.sock.session_reused, True, "second: resumed")


@case(seconds=90)
def bulk_over_tls(t):
    weir, _ = tls_weir(t, server_tls_sslmode="disable")
    size = t.sized(30, 2) << 20
    with weir.connect(sslmode="require") as client:
        value = b"\0\xff" * (size // 2)
        same(client.execute("SELECT length(%b), %b::bytea", (value, value[:1000])).fetchone(),
             (size, value[:1000]), "parameter")
        got = client.execute("SELECT repeat('w', %s)", (size,)).fetchone()[0]
        same(len(got), size, "row")
        n = t.sized(100000, 10000)
        with client.cursor().copy(f"COPY (SELECT repeat('v', 99) FROM generate_series(1, {n})) "
                                  "TO STDOUT") as copy:
            same(sum(len(block) for block in copy), n * 100, "COPY")


@case()
def many_clients_over_tls(t):
    weir, _ = tls_weir(t, default_pool_size=5)

    def work():
        with psycopg.connect(weir.dsn(sslmode="require"), autocommit=True,
                             prepare_threshold=None) as client:
            return sum(client.execute("SELECT %s::int", (n,)).fetchone()[0] for n in range(50))

    for thread in [in_thread(work) for _ in range(t.sized(30, 8))]:
        same(thread.get(), 1225, "sum")


@case()
def garbage_in_a_handshake(t):
    weir, _ = tls_weir(t, client_login_timeout=2)
    for junk in (b"\0" * 64, b"\x16\x03\x01\xff\xff" + b"A" * 3000, b"GET / HTTP/1.0\r\n\r\n",
                 b"\x16\x03\x01\x00\x05hello"):
        with raw.Raw(weir.tcp, login=False) as client:
            client.send(raw.request(raw.SSL_REQUEST))
            same(client.bytes(1), b"S", "answer to SSLRequest")
            client.send(junk)
            holds(client.is_closed(), f"still open after {junk[:10]!r}")
    with raw.Raw(weir.tcp, login=False) as half:
        half.send(raw.request(raw.SSL_REQUEST))
        half.bytes(1)
        began = time.monotonic()
        holds(half.is_closed(6), "a handshake that never comes is waited for")
        holds(time.monotonic() - began < 4, "it took too long")
    same(weir.value("SELECT 1", sslmode="require"), 1, "others go on")


# ---- towards PostgreSQL -------------------------------------------------------------------------


def tls_postgres(t, name="server"):
    c = Certificates(t.dir)
    pg = t.own_postgres(ssl="on", ssl_cert_file=c.path(f"{name}.crt"),
                        ssl_key_file=c.path(f"{name}.key"), ssl_ca_file=c.path("ca.crt"))
    pg.start()
    with pg.connect() as direct:
        direct.execute("CREATE ROLE u_tls LOGIN; CREATE ROLE app LOGIN")
    return pg, c


ASK = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@case()
def server_sslmodes(t):
    pg, c = tls_postgres(t)
    for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
        weir = t.weir(pg=pg, server_tls_sslmode=mode, server_tls_ca_file=c.path("ca.crt"),
                      databases={"*": f"host=localhost port={pg.port}"})
        same(weir.value(ASK), mode != "disable", f"TLS with {mode}")
        weir.check()
    weir = t.weir(pg=pg, server_tls_sslmode="require")
    same(weir.value("SELECT current_user::text", user="u_tls"), "u_tls", "hostssl")


@case()
def a_server_that_cannot_prove_itself_is_not_used(t):
    pg, c = tls_postgres(t, "misnamed")
    at = {"*": f"host=localhost port={pg.port}"}
    good = t.weir(pg=pg, server_tls_sslmode="verify-ca", server_tls_ca_file=c.path("ca.crt"),
                  databases=at)
    same(good.value(ASK), True, "verify-ca")
    for mode, ca in (("verify-full", "ca.crt"), ("verify-ca", "stranger.crt")):
        weir = t.weir(pg=pg, server_tls_sslmode=mode, server_tls_ca_file=c.path(ca), databases=at,
                      query_wait_timeout=3, server_login_retry=1)
        try:
            weir.value("SELECT 1", connect_timeout=8)
        except psycopg.Error:
            pass
        else:
            raise Failed(f"a wrong certificate was accepted by {mode}")


@case()
def a_server_without_tls(t):
    weir = t.weir(server_tls_sslmode="prefer")
    same(weir.value("SELECT 1"), 1, "prefer")
    weir = t.weir(server_tls_sslmode="require", query_wait_timeout=3, server_login_retry=1)
    try:
        weir.value("SELECT 1", connect_timeout=8)
    except psycopg.Error:
        pass
    else:
        raise Failed("sslmode require went on without TLS")


@case(seconds=90)
def bulk_over_tls_to_the_server(t):
    pg, _ = tls_postgres(t)
    weir = t.weir(pg=pg, server_tls_sslmode="require")
    size = t.sized(20, 2) << 20
    with weir.connect() as client:
        same(len(client.execute("SELECT repeat('w', %s)", (size,)).fetchone()[0]), size, "row")
        value = b"\0\xff" * (size // 2)
        same(client.execute("SELECT length(%b)", (value,)).fetchone()[0], size, "parameter")
        for i in range(50):
            same(client.execute("SELECT %s::int", (i,)).fetchone()[0], i, "small")
