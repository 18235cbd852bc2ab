"""make run: two commands from a clone to a served PostgreSQL, and nothing left behind."""
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import psycopg

from harness import ROOT, Failed, case, holds, same, wait_until


def children_of(pid):
    """Every process below this one."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        todo += [int(child) for child in text.split()]
        found += [int(child) for child in text.split()]
    return found


class Run:
    """proxy/run.sh with its temporary folder in ours."""

    def __init__(self, t, **env):
        self.tmp = Path(tempfile.mkdtemp(prefix="run-", dir="/tmp"))
        os.chmod(self.tmp, 0o755)
        self.out = self.tmp / "out"
        with self.out.open("wb") as out:
            self.process = t.spawn([ROOT / "proxy/run.sh"], stdout=out, stderr=out, env={
                **os.environ, "PGWEIR_BIN": t.binary, "TMPDIR": str(self.tmp), **env})
        self.seen = set()

    def text(self):
        return self.out.read_text()

    def look(self):
        self.seen |= set(children_of(self.process.pid))

    def until_up(self):
        def up():
            self.look()
            if self.process.poll() is not None:
                raise Failed(f"it ended: {self.text()}")
            return "Ctrl-C stops" in self.text()

        wait_until("it is up", up, 30)

    def nothing_is_left(self):
        wait_until("all its processes are gone", lambda: not [
            pid for pid in self.seen if Path(f"/proc/{pid}").exists()], 15)
        same([path.name for path in self.tmp.iterdir()], ["out"], "files left")
        self.out.unlink()
        self.tmp.rmdir()


@case(beyond="it takes one file only", small=False)
def serves_and_leaves_nothing(t):
    run = Run(t)
    run.until_up()
    said = run.text()
    dsn = re.search(r"psql '(\S+)'", said).group(1)
    with psycopg.connect(dsn, autocommit=True) as client:
        same(client.execute("SELECT 1").fetchone()[0], 1, "connection string")
    console = re.search(r"console\s+psql -h (\S+) -p (\d+) -U (\S+) (\S+)", said).groups()
    rows = subprocess.run([t.pg.bin / "psql", "-XAt", "-h", console[0], "-p", console[1], "-U",
                           console[2], console[3], "-c", "SHOW POOLS"], check=True,
                          capture_output=True, text=True).stdout
    holds("postgres" in rows, f"SHOW POOLS: {rows}")
    url = re.search(r"(http://\S+/)metrics", said).group(1)
    with urllib.request.urlopen(f"{url}healthz", timeout=5) as answer:
        same(answer.status, 200, "/healthz")
    run.process.send_signal(signal.SIGINT)
    run.look()
    same(run.process.wait(20), 0, f"exit status: {run.text()}")
    run.nothing_is_left()


@case(beyond="it takes one file only", small=False)
def interrupted_at_any_moment(t):
    for delay in (0.05, 0.3, 0.7, 1.0, 1.4):
        run = Run(t)
        end = time.monotonic() + delay
        while time.monotonic() < end:
            run.look()
            time.sleep(0.005)
        run.process.send_signal(signal.SIGINT)
        run.look()
        run.process.wait(20)
        run.nothing_is_left()


@case(beyond="it takes one file only", small=False)
def serves_the_postgres_it_is_given(t):
    given = {"PGHOST": "127.0.0.1", "PGPORT": str(t.pg.port), "PGUSER": "postgres",
             "PGPASSWORD": 'it\'s "secret"'}
    run = Run(t, **given)
    run.until_up()
    dsn = re.search(r"psql '(\S+)'", run.text()).group(1)
    with psycopg.connect(dsn, password=given["PGPASSWORD"]) as client:
        same(client.execute("SELECT count(*) FROM numbers").fetchone()[0], 1000, "its table")
    try:
        psycopg.connect(dsn, password="wrong")
    except psycopg.OperationalError:
        pass
    else:
        raise Failed("a wrong password was accepted")
    holds("secret" not in run.text(), "the password is printed")
    run.process.send_signal(signal.SIGTERM)
    run.look()
    run.process.wait(20)
    run.nothing_is_left()
