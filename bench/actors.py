"""Who makes trouble: readers, dumps, reports, holders of locks, slow disks, executioners.

An actor enters with begin(stage), is asked four times a second to take note(), and leaves with
end(); what it did is then in `told` (figures by name) and, for those that move bytes, in moved():
megabytes by second of the stage.
"""
import csv
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import disk
import lab
import restored

BULK_S_MORE = 120  # a reader that nobody ended ends itself so long after its stage


class Actor:
    phase = "trouble"  # it begins there and ends with it

    def why_not(self, _pg):
        """A reason why it cannot be staged on this machine, or None."""
        return None

    def begin(self, stage):
        self.stage, self.begun_s, self.told = stage, stage.now_s(), {}

    def note(self):
        pass

    def end(self):
        pass

    def close(self):
        """After the users have gone."""

    def moved(self):
        return {}


# ---- readers ------------------------------------------------------------------------------------


@dataclass
class Readers(Actor):
    """COPY loops under the names of backup tools."""
    readers_n: int
    names: str = ""
    phase: str = "trouble"
    statements: tuple = ()

    def begin(self, stage):
        super().begin(stage)
        self.csv = stage.out / f"{stage.arm}-{self.phase}-readers-{id(self)}.csv"
        what = [f"--sql={sql}" for sql in self.statements] or \
            [f"--tables={','.join(lab.TABLES)}"]
        self.process = lab.start(
            [lab.tool("bulk"), stage.bulk_at, f"--readers={self.readers_n}", *what,
             f"--names={self.names}", f"--seconds={stage.length_s + BULK_S_MORE}",
             f"--csv={self.csv}"], cpus=stage.cpus, **lab.PIPES)

    def end(self):
        """As an operator would, by SIGTERM."""
        self.process.terminate()
        span = lab.spans(self.process)[-1]
        self.told = {"done": span["served"], "errors": span["errors"],
                     "done_ms": span["p50_ms"]}

    def moved(self):
        with open(self.csv, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        self.csv.unlink()
        first = round(self.begun_s)
        length = round(self.stage.phase_end_s(self.phase) - self.begun_s)
        return {first + i: int(row["bytes"]) / 1e6 for i, row in enumerate(rows[:length])}


class Scans(Readers):
    """Reports that read everything and answer one row: no stream to be slowed down."""

    def __init__(self, readers_n, names):
        super().__init__(readers_n, names, statements=(
            "SELECT count(*), sum(amount) FROM public.ledger_1 WHERE note LIKE '%ab%'",
            "SELECT max(n) FROM (SELECT account % 50000, count(*), sum(amount) AS n"
            " FROM public.ledger_2 GROUP BY 1) q",
            "SELECT count(*) FROM (SELECT note FROM public.ledger_3 ORDER BY note DESC OFFSET 0) q",
            "SELECT count(DISTINCT account), max(tax) FROM public.ledger_4"))


class Dump(Actor):
    """One pg_dump, started again when it ends: cron does not know that the last one failed. One
    that is `kept` runs to its end, however long after the trouble, is restored, and compared."""

    def __init__(self, jobs, kept=False):
        self.jobs, self.kept = jobs, kept

    def begin(self, stage):
        super().begin(stage)
        # To memory where there is room: it is the database that shall be hurt, not a disk.
        room = Path("/dev/shm")
        if not room.is_dir() or shutil.disk_usage(room).free < 4 << 30:
            room = stage.out
        self.place = room / f"pgweir-drill-{os.getpid()}-{id(self)}"
        self.over, self.last = threading.Event(), self.kept and stage.pooler_is_weir
        self.done_n, self.failed_n, self.bytes_before, self.said = 0, 0, 0, ""
        self.seen = [(stage.now_s(), 0)]
        self.took_s = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over.is_set():
            shutil.rmtree(self.place, ignore_errors=True)
            begun = time.monotonic()
            self.process = lab.start(
                ["pg_dump", "-Fd", "-Z0", "-j", self.jobs, "-f", self.place, "-d",
                 self.stage.bulk_at], cpus=self.stage.cpus, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True)
            said = self.process.communicate()[1].strip()
            self.took_s = time.monotonic() - begun
            if self.process.returncode == 0:
                self.done_n += 1
            elif not self.over.is_set():
                self.failed_n += 1
                self.said = said.splitlines()[0] if said else "no word"
            if self.last:
                return
            self.bytes_before += self._bytes_now()
            shutil.rmtree(self.place, ignore_errors=True)
            if self.process.returncode:
                self.over.wait(1)

    def _bytes_now(self):
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.place))
        except OSError:
            return 0

    def note(self):
        if not self.over.is_set():
            self.seen.append((self.stage.now_s(), self.bytes_before + self._bytes_now()))

    def end(self):
        self.note()
        if not self.last:
            self._finish()

    def _finish(self):
        self.over.set()
        if self.process.poll() is None:
            self.process.terminate()
        self.thread.join(20)
        shutil.rmtree(self.place, ignore_errors=True)
        self.told = {"done": self.done_n, "dumps_failed": self.failed_n, "said": self.said}

    def close(self):
        if not self.last:
            return
        self.thread.join(2 if lab.QUICK else 120)
        took, archive = self.took_s, self.done_n == 1 and not lab.QUICK
        verdict = restored.compare(self.stage.pg, self.place) if archive else \
            self.said or "not finished"
        self._finish()
        self.told.update(kept_s=took, restored=verdict)

    def moved(self):
        """Growth of the archive, second by second."""
        by_second = {}
        for (from_s, before), (_, now) in zip(self.seen, self.seen[1:]):
            second = int(from_s)
            by_second[second] = by_second.get(second, 0) + max(0, now - before) / 1e6
        return by_second


@dataclass
class DeployedUsers(Actor):
    """Statements nobody has seen before, heavier than the rest, from users."""
    share: float

    def begin(self, stage):
        super().begin(stage)
        self.process = lab.start(
            [lab.tool("load"), stage.users_at, f"--rate={max(1, self.share * stage.rate)}",
             f"--seconds={stage.phase_end_s(self.phase) - stage.now_s():.2f}", "--conns=5",
             "--sql=SELECT bid, count(*), max(abalance) FROM pgbench_accounts"
             " WHERE aid BETWEEN 500000 AND 502000 GROUP BY bid"],
            first=True, cpus=stage.cpus, **lab.PIPES)

    def end(self):
        span = lab.spans(self.process)[-1]
        self.told = {"deployed": span["served"], "deployed_p99_ms": span["p99_ms"]}


# ---- those who go to PostgreSQL themselves --------------------------------------------------


class Visitor(Actor):
    """A thread with work to do at the server, past every pooler."""

    def begin(self, stage):
        super().begin(stage)
        self.over, self.trouble = threading.Event(), None
        self.thread = threading.Thread(target=self._guarded, daemon=True)
        self.thread.start()

    def _guarded(self):
        try:
            self.act()
        except (OSError, lab.PgError, lab.Trouble) as error:
            self.trouble = str(error)

    def act(self):
        raise NotImplementedError

    def end(self):
        self.over.set()
        self.thread.join(60)
        if self.trouble:
            self.told["visitor"] = self.trouble

    def session(self):
        return lab.Session(self.stage.pg.port, database=lab.DATABASE)


@dataclass
class Hold(Visitor):
    """Takes a lock, sleeps on it, lets go; again and again."""
    sql: str
    hold_s: float
    every_s: float

    def act(self):
        with self.session() as control:
            while not self.over.is_set():
                control.ask("BEGIN")
                control.ask(self.sql)
                self.over.wait(self.hold_s)
                control.ask("COMMIT")
                self.over.wait(self.every_s - self.hold_s)


@dataclass
class AlterTable(Visitor):
    """A migration: waits for everybody who reads the users' table, everybody else waits for it."""
    after_s: float

    def act(self):
        self.over.wait(1 if lab.QUICK else self.after_s)
        with self.session() as control:
            control.ask("SET statement_timeout = '60s'")
            self.told["altering_at_s"] = self.stage.now_s()
            begun = time.monotonic()
            control.ask("ALTER TABLE pgbench_accounts ADD COLUMN drilled int")
            self.told["altered_s"] = time.monotonic() - begun

    def close(self):
        with self.session() as control:
            control.ask("ALTER TABLE pgbench_accounts DROP COLUMN IF EXISTS drilled")


@dataclass
class Stalls(Visitor):
    """A checkpoint after many writes, as a small disk makes one: all of the server's processes
    stand still while it flushes."""
    stall_s: float
    every_s: float

    def act(self):
        with self.session() as control:
            while not self.over.wait(self.every_s / 2):
                control.ask("UPDATE pgbench_tellers SET tbalance = tbalance + 1")
                control.ask("CHECKPOINT")
                pids = disk.descendants(self.stage.pg.process.pid)
                try:
                    for pid in pids:
                        send(pid, signal.SIGSTOP)
                    time.sleep(self.stall_s)
                finally:
                    for pid in pids:
                        send(pid, signal.SIGCONT)
                self.over.wait(self.every_s / 2)


def send(pid, how):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass  # a backend that ended meanwhile


class SlowDisk(Visitor):
    """Cold files from the first second on; in the trouble the disk does only a share of the reads
    that users and backup made of it before."""

    def __init__(self, share):
        self.share = share
        self.phase = "calm"

    def why_not(self, pg):
        return disk.why_not(pg)

    def act(self):
        self.disk = disk.ColdDisk(self.stage.pg)
        begins_s, ends_s = self.stage.phase_begin_s("trouble"), self.stage.phase_end_s("trouble")
        half_s = begins_s / 2
        self._sleep_until(half_s)
        before = self.disk.reads_n()
        self._sleep_until(begins_s)
        reads = max(50, int(self.share * (self.disk.reads_n() - before) / (begins_s - half_s)))
        self.told["reads_per_s"] = reads
        self.disk.slow(reads)
        self._sleep_until(ends_s)
        self.disk.fast()

    def _sleep_until(self, at_s):
        time.sleep(max(0.0, at_s - self.stage.now_s()))

    def end(self):
        pass  # it sees to its own time

    def close(self):
        super().end()
        if hasattr(self, "disk"):
            self.disk.finish()


# ---- executioners -------------------------------------------------------------------------------


class Crash(Visitor):
    """SIGKILL to one backend: PostgreSQL ends all others and recovers."""

    def act(self):
        with self.session() as control:
            pid = int(control.value(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() AND datname = current_database() LIMIT 1"))
        os.kill(pid, signal.SIGKILL)
        self.told["down_at_s"] = self.stage.now_s()
        time.sleep(0.02)  # the postmaster has to notice first
        self._wait()

    def _wait(self):
        lab.wait_until("PostgreSQL answers again", self._answers, 60)
        self.told["healthy_at_s"] = self.stage.now_s()

    def _answers(self):
        try:
            with self.session() as control:
                control.ask("SELECT 1")
            return True
        except (OSError, lab.PgError):
            return False


class Restart(Crash):
    """`pg_ctl stop -m immediate`, a pause, and a start that has to recover."""

    def __init__(self, away_s):
        self.away_s = away_s

    def begin(self, stage):
        # Not in a thread of its own: a server dies with the thread that started it.
        Actor.begin(self, stage)
        self.back_s = stage.now_s() + (0.5 if lab.QUICK else self.away_s)
        self.told["down_at_s"] = stage.now_s()
        stage.pg.stop(signal.SIGQUIT)

    def note(self):
        if "healthy_at_s" not in self.told and self.stage.now_s() >= self.back_s:
            self.stage.pg.start(self.stage.pg_cpus)
            self._wait()

    def end(self):
        pass


NAP = """
    DROP TABLE IF EXISTS nap_for;
    CREATE TABLE nap_for (seconds float8);
    INSERT INTO nap_for VALUES (0.01);
    GRANT SELECT ON nap_for TO app;
    CREATE OR REPLACE FUNCTION nap() RETURNS void LANGUAGE sql AS
        'SELECT pg_sleep(seconds) FROM public.nap_for'"""


class Sick(Visitor):
    """Each nap and each login of the server takes a second longer. Logins are slowed where
    PostgreSQL itself can: its developers' post_auth_delay, read by every new backend."""

    def act(self):
        with self.session() as control:
            self._make(control, True)
            self.over.wait()
            self._make(control, False)
        self.told["healthy_at_s"] = self.stage.now_s()

    @staticmethod
    def _make(control, sick):
        control.ask(f"UPDATE nap_for SET seconds = {1 if sick else 0.01}")
        control.ask(f"ALTER SYSTEM SET post_auth_delay = {1 if sick else 0}")
        control.ask("SELECT pg_reload_conf()")
