"""What an integration case stands on: a real PostgreSQL, a fresh pgweir, and a list of debts.

    @case()
    def a_name_that_says_what_holds(t):
        weir = t.weir(default_pool_size=1)
        with weir.connect() as client: ...

The runner owns one Postgres per process; a case owns what it makes through `t`. When the function
returns, t.finish() closes clients, ends pgweir by SIGINT and demands: exit status 0, nothing in the
log that an assertion or a sanitizer would write, and no server connection left in PostgreSQL.
Only processes started here are ever signalled, and each dies with its parent.
"""
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg

import raw

ROOT = Path(__file__).resolve().parent.parent.parent
SCRATCH = str(ROOT / "tests" / "scratch.sh")
BAD_LOG = re.compile(r"must hold|Sanitizer|runtime error:|FATAL.*Assert|"
                     r"client disconnected with query in progress")
PASSWORD = "correct horse"


class Failed(AssertionError):
    """A case found something wrong."""


class Skip(Exception):
    """A case cannot run here; the text says why."""


CASES = []


def case(beyond=None, seconds=60, each=None, small=True):
    """Registers a case. `beyond`: why PgBouncer cannot pass it (it is skipped there). `each`: makes
    one case of each entry of a dict, which is passed as second argument. `small`: takes part in
    the runs under a sanitizer."""

    def register(function):
        name = function.__name__
        for key, value in (each or {None: None}).items():
            CASES.append({
                "name": name if key is None else f"{name}[{key}]",
                "run": function if key is None else lambda t, v=value: function(t, v),
                "beyond": beyond, "seconds": seconds, "small": small,
                "file": Path(function.__code__.co_filename).stem,
            })
        return function

    return register


# ---- small helpers ---------------------------------------------------------------------------


def wait_until(what, condition, seconds=5.0, every=0.02):
    """Waits for a condition; its first true value is the result."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {seconds:g} s in vain: {what}")
        time.sleep(every)


def same(got, wanted, what="value"):
    if got != wanted:
        raise Failed(f"{what}: got {got!r}, wanted {wanted!r}")


def holds(condition, what):
    if not condition:
        raise Failed(what)


def refused(function, sqlstate=None, text=None):
    """Demands an error of PostgreSQL's kind, of this SQLSTATE and with this text in it."""
    try:
        function()
    except psycopg.Error as error:
        state, said = error.sqlstate, str(error)
    except raw.ServerError as error:
        state, said = error.sqlstate, str(error)
    else:
        raise Failed(f"no error, wanted {sqlstate} {text}")
    # libpq knows no SQLSTATE for errors of a login: there the text alone decides.
    if sqlstate and state:
        same(state, sqlstate, f"SQLSTATE of “{said}”")
    if text and not re.search(text, said):
        raise Failed(f"the error says “{said}”, not “{text}”")
    return said


def free_port(but=None):
    with socket.socket() as s:
        for port in random.sample(range(20000, 32000), 200):
            if port == but:
                continue
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed("no free port")


def in_thread(function, *args):
    """Runs function in a thread; the result has .get(), which raises what function raised."""
    box = {}

    def body():
        try:
            box["value"] = function(*args)
        except BaseException as error:  # handed to whoever calls get()
            box["error"] = error

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    class Result:
        @staticmethod
        def done():
            return not thread.is_alive()

        @staticmethod
        def get(seconds=30):
            thread.join(seconds)
            if thread.is_alive():
                raise Failed(f"a thread did not end in {seconds} s")
            if "error" in box:
                raise box["error"]
            return box["value"]

    return Result


def output_of(command, stdin=None, env=None, seconds=60, check=True, binary=False):
    """Runs a program; (exit status, stdout, stderr). A status other than 0 fails unless told."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True,
                          env={**os.environ, **(env or {})}, timeout=seconds, text=not binary,
                          check=False)
    if check and done.returncode:
        raise Failed(f"{Path(str(command[0])).name} ended with {done.returncode}: {done.stderr}")
    return done.returncode, done.stdout, done.stderr


def as_postgres():
    """Command prefix that gives up root, which neither PostgreSQL nor pgweir accepts."""
    if os.getuid() != 0:
        return []
    import pwd
    who = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--init-groups"]


def give_away(path):
    if os.getuid() == 0:
        shutil.chown(path, "postgres")


def memory_kb(pid, field="VmRSS"):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", text).group(1))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- PostgreSQL ------------------------------------------------------------------------------


class Postgres:
    """A scratch cluster. Users u_plain, u_md5, u_scram, u_tls must log in as their names say."""

    def __init__(self, directory, **settings):
        self.dir = Path(directory)
        self.bin = Path(output_of([SCRATCH, "bin"])[1].strip())
        settings = {"max_connections": 120, "shared_buffers": "64MB", "log_connections": "on",
                    "max_prepared_transactions": 4, "wal_level": "logical", **settings}
        output_of([SCRATCH, "init", self.dir] + [f"{k}={v}" for k, v in settings.items()])
        env = dict(line.split("=", 1) for line in
                   output_of([SCRATCH, "env", self.dir])[1].splitlines())
        self.port, self.sock = int(env["PGPORT"]), env["PGSOCKET"]
        self.process = None
        self.write_hba()

    def write_hba(self):
        rules = ["local all all trust"]
        for user, method in (("u_plain", "password"), ("u_md5", "md5"),
                             ("u_scram", "scram-sha-256")):
            rules.append(f"host all {user} 127.0.0.1/32 {method}")
        rules += ["hostssl all u_tls 127.0.0.1/32 trust", "hostnossl all u_tls 127.0.0.1/32 reject",
                  "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        (self.dir / "data" / "pg_hba.conf").write_text("\n".join(rules) + "\n")

    def start(self):
        self.process = subprocess.Popen([SCRATCH, "run", str(self.dir)])
        output_of([SCRATCH, "wait", self.dir], seconds=90)
        return self

    def stop(self, how=signal.SIGINT):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)
        self.process = None

    def populate(self):
        """What all cases share; they must not change it."""
        with self.connect() as c:
            for encryption, users in (("md5", ("u_md5",)),
                                      ("scram-sha-256", ("u_plain", "u_scram"))):
                c.execute(f"SET password_encryption = '{encryption}'")
                for user in users:
                    c.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
            c.execute("CREATE ROLE u_tls LOGIN; CREATE ROLE other LOGIN; CREATE ROLE app LOGIN")
            c.execute("GRANT ALL ON SCHEMA public TO public")
            c.execute("CREATE TABLE numbers AS SELECT i, md5(i::text) AS t "
                      "FROM generate_series(1, 1000) i")
            c.execute("GRANT SELECT ON numbers TO public")
            c.execute("CREATE SCHEMA shelf; CREATE TABLE shelf.book (title text); "
                      "GRANT USAGE ON SCHEMA shelf TO public; GRANT SELECT ON shelf.book TO public")
            self.secrets = dict(c.execute(
                "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword <> ''").fetchall())

    def connect(self, dbname="postgres", **more):
        return psycopg.connect(host=self.sock, port=self.port, user="postgres", dbname=dbname,
                               autocommit=True, application_name="direct", **more)

    def value(self, sql, *args, dbname="postgres"):
        with self.connect(dbname) as c:
            return c.execute(sql, args or None).fetchone()[0]

    def database(self, name):
        with self.connect() as c:
            c.execute(f"CREATE DATABASE {name}")
        return name

    SERVERS = ("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
               "AND application_name NOT IN ('direct', 'pgweir probe')")

    def servers_n(self):
        """Connections that are not the tests' own."""
        return self.value(self.SERVERS)

    def running_n(self, pattern):
        """Statements that run now and match a regular expression."""
        return self.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                          "AND query ~ %s AND application_name <> 'direct'", pattern)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")


# ---- pgweir ------------------------------------------------------------------------------------

OWN_KEYS = {"workers", "status_listen_addr", "status_port", "max_upstream_connections",
            "max_address_connections", "max_server_logins", "max_client_logins"}


class Weir:
    """One pgweir process with an ini of its own. Keywords are settings of [pgbouncer], except
    databases, users, peers (dicts), userlist (dict of secrets), text (sections as they are), and
    prefix (of the command line)."""

    def __init__(self, t, databases=None, users=None, peers=None, userlist=None, text="", pg=None,
                 start=True, args=(), prefix=(), **settings):
        self.t, self.args, self.prefix = t, list(args), list(prefix)
        self.dir = Path(tempfile.mkdtemp(prefix="weir-", dir=t.dir))
        give_away(self.dir)
        self.port = free_port()
        pg = pg or t.pg
        self.userlist = {name: "" for name in ("postgres", "app", "other", "u_tls")}
        self.userlist.update(userlist or {})
        self.databases = databases or {"*": f"host=127.0.0.1 port={pg.port}"}
        self.users, self.peers, self.text = users or {}, peers or {}, text
        self.settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": self.dir,
            "pool_mode": "transaction", "auth_type": "trust", "auth_file": self.dir / "users.txt",
            "admin_users": "postgres", "max_client_conn": 3000, "default_pool_size": 20,
            "server_login_retry": "0.5", "stats_period": 3600, "workers": 2, **settings}
        self.status_port = free_port(but=self.port)
        if t.is_weir:
            self.settings.setdefault("status_listen_addr", "127.0.0.1")
            self.settings.setdefault("status_port", self.status_port)
        self.ini = self.dir / "pgweir.ini"
        self.log_file = self.dir / "log"
        self.process, self.exit_status = None, None
        self.write()
        if start:
            self.start()

    def write(self, **changes):
        """Writes the files again, with these settings changed (None removes one)."""
        self.settings.update(changes)
        lines = ["[databases]"] + [f"{k} = {v}" for k, v in self.databases.items()]
        for section in ("users", "peers"):
            entries = getattr(self, section)
            lines += [f"[{section}]"] * bool(entries) + [f"{k} = {v}" for k, v in entries.items()]
        lines += ["[pgbouncer]"]
        lines += [f"{k} = {v}" for k, v in self.settings.items()
                  if v is not None and (self.t.is_weir or k not in OWN_KEYS)]
        self.ini.write_text("\n".join(lines) + "\n" + self.text + "\n")
        quoted = [f'"{name}" "{secret}"' for name, secret in self.userlist.items()]
        Path(self.settings["auth_file"]).write_text("\n".join(quoted) + "\n")

    def start(self):
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                ["setsid", *self.prefix, *as_postgres(), "setpriv", "--pdeathsig", "KILL",
                 self.t.binary, *self.args, self.ini],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def listens():
            if self.process.poll() is not None:
                raise Failed(f"pgweir ended with {self.process.returncode} at start: {self.log()}")
            ports = filter(None, (self.port, self.settings.get("status_port")))
            try:
                for port in ports:
                    socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
            return True

        wait_until("pgweir listens", listens, 20)
        return self

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def stop(self, how=signal.SIGINT, seconds=15):
        """Ends the process; its exit status, or Failed when it does not end."""
        if self.exit_status is None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            try:
                self.exit_status = self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.exit_status = self.process.wait()
                raise Failed(f"pgweir did not end in {seconds} s of signal {how}") from None
        return self.exit_status

    def check(self):
        """What must hold of every pgweir at the end of its case."""
        if self.process is None:
            return
        crashed = self.process.poll() is not None and self.exit_status is None
        status = self.stop()
        bad = BAD_LOG.search(self.log())
        if bad:
            at = max(0, bad.start() - 300)
            raise Failed(f"the log says:\n{self.log()[at:bad.end() + 3000]}")
        if crashed or status != 0:
            raise Failed(f"pgweir ended with {status}{' by itself' if crashed else ''}:\n"
                         f"{self.log()[-1500:]}")

    # -- talking to it

    @property
    def tcp(self):
        return ("127.0.0.1", self.port)

    @property
    def unix(self):
        return f"{self.dir}/.s.PGSQL.{self.port}"

    def dsn(self, unix=False, **params):
        params = {"user": "postgres", "dbname": "postgres", **params}
        host = self.dir if unix else "127.0.0.1"
        return psycopg.conninfo.make_conninfo(host=str(host), port=self.port,
                                              **{"connect_timeout": 10, **params})

    def connect(self, unix=False, autocommit=True, prepare_threshold=None, **params):
        """A psycopg client; closed at the end of the case if the case does not. Prepares no
        statements of its own unless prepare_threshold says so."""
        client = psycopg.connect(self.dsn(unix, **params), autocommit=autocommit,
                                 prepare_threshold=prepare_threshold)
        self.t.clients.append(client)
        return client

    def raw(self, address=None, **params):
        client = raw.Raw(address or self.tcp, **params)
        self.t.clients.append(client)
        return client

    def value(self, sql, **params):
        with self.connect(**params) as client:
            return client.execute(sql).fetchone()[0]

    def answers(self, **params):
        """Whether a client gets in and is served right now."""
        try:
            return self.value("SELECT 1", **{"connect_timeout": 3, **params}) == 1
        except psycopg.Error:
            return False

    def console(self, command, user="postgres", unix=True):
        """Rows of a console command as dicts, or [] if it returns none."""
        with psycopg.connect(self.dsn(unix, user=user, dbname="pgbouncer"), autocommit=True,
                             cursor_factory=psycopg.ClientCursor) as client:
            client.prepare_threshold = None
            cursor = client.execute(command)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]

    def pool(self, database="postgres", user="postgres"):
        for row in self.console("SHOW POOLS"):
            if (row["database"], row["user"]) == (database, user):
                return row
        return None

    def status(self, path):
        """(HTTP status, text) of the status port."""
        url = f"http://127.0.0.1:{self.settings['status_port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def psql(self, sql, *args, check=True, unix=False, env=None, **params):
        return output_of([self.t.pg.bin / "psql", "-XAtq", *args, "-v", "ON_ERROR_STOP=1",
                          "-d", self.dsn(unix, **params)], stdin=sql, check=check, env=env)

    def tool(self, name, *args, seconds=60, check=True, **params):
        """Runs a program of PostgreSQL (pg_dump, pgbench) against pgweir."""
        env = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres",
               "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "30",
               **{f"PG{key.upper()}": value for key, value in params.items()}}
        return output_of([self.t.pg.bin / name, *args], env=env, seconds=seconds, check=check)


# ---- one case ----------------------------------------------------------------------------------


class Case:
    """What a case function gets as `t`."""

    def __init__(self, pg, binary, is_weir, scale, directory):
        self.pg, self.binary, self.is_weir, self.scale = pg, binary, is_weir, scale
        self.dir = Path(tempfile.mkdtemp(prefix="case-", dir=directory))
        give_away(self.dir)
        os.chmod(self.dir, 0o755)
        self.weirs, self.clients, self.clusters, self.children, self.notes = [], [], [], [], []

    def weir(self, **settings):
        weir = Weir(self, **settings)
        self.weirs.append(weir)
        return weir

    def own_postgres(self, **settings):
        """A cluster of this case alone, for those that hurt it."""
        pg = Postgres(self.dir / f"pg{len(self.clusters)}", **settings)
        self.clusters.append(pg)
        return pg

    def sized(self, full, small=None):
        """A size, or count: the whole, or what a sanitizer run can afford."""
        return full if self.scale == 1 else (small if small is not None else max(1, full // 10))

    def spawn(self, command, **more):
        """Starts a program that ends with the case at the latest."""
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)], **more)
        self.children.append(child)
        return child

    def note(self, text):
        """A figure worth reading beside the case's name."""
        self.notes.append(text)

    def close_clients(self):
        for client in self.clients:
            try:
                client.close()
            except Exception:  # a client that a case has broken on purpose
                pass
        self.clients.clear()

    def end(self):
        """Ends whatever the case started; never raises."""
        self.close_clients()
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for weir in self.weirs:
            if weir.process and weir.process.poll() is None:
                weir.process.kill()
                weir.process.wait()
        for pg in self.clusters:
            pg.stop(signal.SIGQUIT)

    def finish(self):
        """The debts of a case that went well."""
        self.close_clients()
        for weir in self.weirs:
            weir.check()
        wait_until("no server connection is left in PostgreSQL",
                   lambda: self.pg.servers_n() == 0, 5)
