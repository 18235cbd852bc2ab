#!/usr/bin/env python3
"""The outage, re-enacted: users at a steady rate, then a misconfigured backup, then calm again.

Every arm is run through the same script on the same PostgreSQL:

    direct    straight to PostgreSQL
    off       pgweir with its protection switched off
    weir      pgweir as shipped: an ini that PgBouncer would read, nothing configured
    bouncer   PgBouncer as shipped, same ini
    tuned     PgBouncer tuned by hand for this very accident: a pool of two for the backup

Users arrive at random times at 45 % of the capacity measured first (through PgBouncer), wait a
second for an answer, hang up, and try three times in all. The backup is 24 readers at once: two
`pg_dump -j 4` and sixteen COPY loops under the names of backup tools or none. PostgreSQL has one
core to itself, all others run on the rest; users and pooler go before the backup there, for they
would not share a machine with it. Written to build/drill: a CSV line for
each arm and second, summary.csv, report.txt and drill.png. The exit status says whether users were
protected; README.md has the conditions. Environment: QUICK=1, ARMS=a,b, RATE=n, SEED=n, SLACK=x,
and WEIR_INI=file with sections of one's own for the arm `weir`, to try settings.
"""
import csv
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True  # all that is made lies in the build folder
import lab
import storm
from lab import say

APP_CONNECTIONS_N = 10  # as HikariCP has unless told; both poolers allow 20: nobody must queue
COPY_READERS_N = 16
COPY_NAMES = "pgbackrest,barman,pg_dump,"  # the empty one is a script that says nothing
DUMPS_N, DUMP_JOBS_N = 2, 4
CAPACITY_SHARE = 0.45
SERVED_MIN = 0.999
BULK_MB_S_MIN = 1.0
PLAIN_SERVED = 0.99  # an outage is plain when fewer are served, or p99 is this many times calm's:
PLAIN_P99 = 5.0
SLACK = float(os.environ.get("SLACK", "1.25"))  # how far apart two equal p99 are here, run to run
PHASES = ["calm", "storm", "after"]
# A new pgweir trusts what it has learnt of latency after 8 s of calm, and firmly after 40.
CPUS = lab.split_cpus()
SECONDS = {"calm": 9, "storm": 5, "after": 1} if lab.QUICK else \
    {"calm": 45, "storm": 30, "after": 15}
QUICK_ARMS = ["direct", "tuned", "weir"]
ARMS = ["direct", "off", "weir", "bouncer", "tuned"]
TITLES = {"direct": "direct", "off": "pgweir, protection off", "weir": "pgweir as shipped",
          "bouncer": "PgBouncer as shipped", "tuned": "PgBouncer hand-tuned"}

# All classes of one rank, nobody demoted, nothing reserved, nobody held back.
PROTECTION_OFF = {"breaker": "off", "text": """
[class interactive]
reserved = 0
max = 100%
demote_copy_out = 0
demote_cursor = 0
demote_after = 0
demote_bytes = 0
[class bulk]
priority = 0
weight = 100
reserved = 0
max = 100%
queue_deadline = 0
[class backup]
priority = 0
weight = 100
reserved = 0
max = 100%
queue_deadline = 0
"""}


# ---- the backup -----------------------------------------------------------------------------


class Dump(threading.Thread):
    """One pg_dump -j, started again when it ends: cron does not know that the last one failed."""

    def __init__(self, conninfo, place):
        super().__init__(daemon=True)
        self.conninfo, self.place = conninfo, Path(place)
        self.over = threading.Event()
        self.done_n, self.failed_n, self.bytes_before, self.said = 0, 0, 0, ""
        self.process = None

    def run(self):
        while not self.over.is_set():
            shutil.rmtree(self.place, ignore_errors=True)
            self.process = lab.start(
                ["pg_dump", "-Fd", "-Z0", "-j", DUMP_JOBS_N, "-f", self.place, "-d",
                 self.conninfo], cpus=CPUS[1], stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True)
            said = self.process.communicate()[1]
            self.bytes_before += self.bytes_now()
            shutil.rmtree(self.place, ignore_errors=True)
            if self.over.is_set():
                return
            if self.process.returncode == 0:
                self.done_n += 1
                continue
            self.failed_n += 1
            self.said = said.strip().splitlines()[0] if said.strip() else "no word"
            self.over.wait(1)

    def bytes_now(self):
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.place))
        except OSError:
            return 0

    def bytes(self):
        return self.bytes_before + self.bytes_now()

    def finish(self):
        self.over.set()
        if self.process and self.process.poll() is None:
            self.process.terminate()
        self.join(20)
        shutil.rmtree(self.place, ignore_errors=True)


class Backup:
    """The storm: COPY loops and dumps, and how far they come."""

    def __init__(self, conninfo, out, arm):
        self.csv = out / f"{arm}-copy.csv"
        # Dumps go to memory where there is room: it is the database that shall be hurt, not a disk.
        room = Path("/dev/shm")
        if not room.is_dir() or shutil.disk_usage(room).free < 4 << 30:
            room = out
        self.copies = lab.start(
            [lab.tool("bulk"), conninfo, f"--readers={COPY_READERS_N}", f"--names={COPY_NAMES}",
             f"--tables={','.join(lab.TABLES)}", f"--seconds={SECONDS['storm'] + 60}",
             f"--csv={self.csv}"], cpus=CPUS[1], **lab.PIPES)
        self.dumps = [Dump(conninfo, room / f"pgweir-drill-{os.getpid()}-{i}")
                      for i in range(DUMPS_N)]
        for dump in self.dumps:
            dump.start()

    def dump_bytes(self):
        return sum(dump.bytes() for dump in self.dumps)

    def finish(self):
        """Ends them as an operator would, by SIGTERM; what the COPY loops counted."""
        self.copies.terminate()
        for dump in self.dumps:
            dump.finish()
        return lab.spans(self.copies)[-1]


# ---- one arm --------------------------------------------------------------------------------


class Breakers:
    """The breaker's state as its console tells it, once a second; blank where nobody has one."""

    def __init__(self, pooler):
        self.pooler = pooler if pooler and pooler.is_weir else None
        self.session = None

    def state(self):
        if not self.pooler:
            return ""
        try:
            self.session = self.session or self.pooler.console()
            rows = self.session.ask("SHOW BREAKERS")
        except (OSError, lab.PgError) as error:
            self.session = None
            return f"console: {error}".replace(",", ";")
        return " ".join(f"{row.get('class', '?')}={row.get('state', '?')}" for row in rows)


def open_arm(arm, pg, out):
    """The pooler of an arm (None: direct), the users' conninfo, the backup's conninfo."""
    if arm == "direct":
        return None, pg.conninfo(), pg.conninfo()
    if arm in ("off", "weir"):
        mine = os.environ.get("WEIR_INI")
        shipped = {"text": Path(mine).read_text(encoding="utf-8")} if mine else {}
        own = PROTECTION_OFF if arm == "off" else shipped
        pooler = lab.Pooler(out, lab.weir_path(), pg, arm, own=own)
        return pooler, pooler.conninfo(), pooler.conninfo()
    if arm == "bouncer":
        pooler = lab.Pooler(out, lab.pgbouncer_path(), pg, arm)
        return pooler, pooler.conninfo(), pooler.conninfo()
    here = f"host=127.0.0.1 port={pg.port} dbname={lab.DATABASE}"
    pooler = lab.Pooler(out, lab.pgbouncer_path(), pg, arm,
                        databases={lab.DATABASE: here, "nightly": f"{here} pool_size=2"})
    return pooler, pooler.conninfo(), pooler.conninfo(user="backup", database="nightly")


def run_arm(arm, pg, out, rate):
    """One calm - storm - calm; everything seen, as a dict."""
    pooler, users_at, backup_at = open_arm(arm, pg, out)
    if pooler:
        pooler.start(first=True, cpus=CPUS[1])
    calm, storm = SECONDS["calm"], SECONDS["storm"]
    total = sum(SECONDS.values())
    users = lab.start(
        [lab.tool("load"), users_at, f"--rate={rate}", f"--seconds={total}",
         f"--conns={APP_CONNECTIONS_N}", f"--accounts={lab.ACCOUNTS_N}",
         f"--marks={calm},{calm + storm}", f"--csv={out / (arm + '-users.csv')}",
         f"--seed={os.environ.get('SEED', '1')}"],
        first=True, cpus=CPUS[1], **lab.PIPES)
    if users.stderr.readline().strip() != "ready":
        raise lab.Trouble(f"{arm}: the users could not connect: {users.stderr.read()}")
    begun = time.monotonic()
    breakers, backup, samples, copied = Breakers(pooler), None, [], None
    for second in range(total):
        time.sleep(max(0.0, begun + second - time.monotonic()))
        if second == calm:
            backup = Backup(backup_at, out, arm)
        if second == calm + storm:
            copied = backup.finish()
        samples.append({"dump_bytes": backup.dump_bytes() if backup else 0,
                        "breakers": breakers.state()})
    spans = lab.spans(users)
    status = pooler.stop() if pooler else 0
    return {"arm": arm, "spans": dict(zip(PHASES, spans)), "copied": copied, "samples": samples,
            "dumps_done": sum(d.done_n for d in backup.dumps),
            "dumps_failed": sum(d.failed_n for d in backup.dumps),
            "dump_said": next((d.said for d in backup.dumps if d.said), ""),
            "exit_status": status}


# ---- what came of it ---------------------------------------------------------------------------


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def write_arm_csv(result, out):
    """Users, bulk and breakers of an arm side by side, a line a second; the bulk of each second."""
    arm, samples = result["arm"], result["samples"]
    users, copies = read_csv(out / f"{arm}-users.csv"), read_csv(out / f"{arm}-copy.csv")
    lines, bulk = [], []
    for second, row in enumerate(users):
        in_storm = second - SECONDS["calm"]
        in_reach = 0 <= in_storm < min(SECONDS["storm"], len(copies))
        copied = int(copies[in_storm]["bytes"]) if in_reach else 0
        after = samples[min(second + 1, len(samples) - 1)]
        dumped = max(0, after["dump_bytes"] - samples[second]["dump_bytes"])
        bulk.append((copied + dumped) / 1e6)
        lines.append({**row, "bulk_mb_s": f"{bulk[-1]:.1f}", "dump_mb_s": f"{dumped / 1e6:.1f}",
                      "breakers": after["breakers"]})
    with open(out / f"{arm}.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    for part in ("users", "copy"):
        (out / f"{arm}-{part}.csv").unlink()
    result["bulk_mb_s"] = sum(bulk) / SECONDS["storm"]
    moving = [float(line["p99_ms"]) for line, mb in zip(lines, bulk) if mb >= BULK_MB_S_MIN]
    result["moving_s"] = len(moving)
    result["moving_p99_ms"] = lab.median(moving) if moving else 0.0
    result["dump_mb"] = samples[-1]["dump_bytes"] / 1e6


def served(result, phase):
    span = result["spans"][phase]
    return span["served"] / span["offered"] if span["offered"] else 0.0


def summary_rows(results):
    for result in results:
        for phase in PHASES:
            span = result["spans"][phase]
            yield {"arm": result["arm"], "phase": phase, "offered": span["offered"],
                   "served_percent": f"{100 * served(result, phase):.2f}",
                   "gaveup": span["gaveup"], "failed": span["failed"],
                   "p50_ms": span["p50_ms"], "p99_ms": span["p99_ms"], "p999_ms": span["p999_ms"],
                   "max_ms": span["max_ms"],
                   "bulk_mb_s": f"{result['bulk_mb_s']:.1f}" if phase == "storm" else "",
                   "copies": result["copied"]["served"] if phase == "storm" else "",
                   "dumps": f"{result['dumps_done']}" if phase == "storm" else "",
                   "dumps_failed": f"{result['dumps_failed']}" if phase == "storm" else "",
                   "dump_mb": f"{result['dump_mb']:.0f}" if phase == "storm" else "",
                   "errors": " ".join(f"{k}:{v}" for k, v in span["errors"].items())}


def table(rows):
    names = list(rows[0])
    widths = [max(len(n), *(len(str(r[n])) for r in rows)) for n in names]
    lines = ["  ".join(n.ljust(w) for n, w in zip(names, widths))]
    lines += ["  ".join(str(r[n]).ljust(w) for n, w in zip(names, widths)) for r in rows]
    return "\n".join(line.rstrip() for line in lines)


def plain_outage(result):
    calm, storm = result["spans"]["calm"], result["spans"]["storm"]
    return served(result, "storm") < PLAIN_SERVED or \
        storm["p99_ms"] >= PLAIN_P99 * max(calm["p99_ms"], 1.0)


def judge(results):
    """(condition, holds, figures) for each that the arms of this run allow."""
    by = {result["arm"]: result for result in results}
    for arm in ("direct", "off"):
        if arm in by:
            storm, calm = by[arm]["spans"]["storm"], by[arm]["spans"]["calm"]
            yield (f"the outage is plain: {TITLES[arm]}", plain_outage(by[arm]),
                   f"served {100 * served(by[arm], 'storm'):.2f} %, "
                   f"p99 {calm['p99_ms']} -> {storm['p99_ms']} ms")
    if "weir" not in by:
        return
    weir = by["weir"]
    for phase in ("storm", "after"):
        yield (f"users served through pgweir, {phase}: {100 * SERVED_MIN:g} %",
               served(weir, phase) >= SERVED_MIN, f"{100 * served(weir, phase):.3f} %")
    yield (f"the backup goes on: {BULK_MB_S_MIN:g} MB/s", weir["bulk_mb_s"] >= BULK_MB_S_MIN,
           f"{weir['bulk_mb_s']:.1f} MB/s, {weir['copied']['served']} copies, "
           f"{weir['dumps_done']} dumps")
    if "tuned" in by:
        ours, theirs = weir["spans"]["storm"]["p99_ms"], by["tuned"]["spans"]["storm"]["p99_ms"]
        yield (f"p99 no worse than hand-tuned PgBouncer's (x{SLACK:g})", ours <= SLACK * theirs,
               f"{ours} ms beside {theirs} ms")
    for arm in ("off", "weir"):
        if arm in by:
            yield (f"{TITLES[arm]} ended in order", by[arm]["exit_status"] == 0,
                   f"exit status {by[arm]['exit_status']}")


def moving(results):
    """p99 of the seconds in which the backup moved: a pooler where it stands still has it easy."""
    return [f"{TITLES[r['arm']]}: the backup moved in {r['moving_s']} of {SECONDS['storm']} s; "
            f"median of their p99: {r['moving_p99_ms']:.1f} ms" for r in results]


def draw(results, out):
    if not shutil.which("gnuplot"):
        say("no gnuplot: no picture")
        return
    calm, storm = SECONDS["calm"], SECONDS["storm"]

    def lines(column):
        return ", \\\n  ".join(
            f"'{out / (r['arm'] + '.csv')}' using 't':'{column}' with lines lw 2 lc {i + 1} "
            f"title '{TITLES[r['arm']]}'"
            for i, r in enumerate(results))

    script = f"""
set terminal pngcairo size 1200,1100 font 'sans,11'
set output '{out / 'drill.png'}'
set datafile separator ','
set multiplot layout 3,1 title 'A backup of 24 readers, from {calm} to {calm + storm} s'
set grid
set key outside right top
set xrange [0:{sum(SECONDS.values())}]
set object 1 rectangle from {calm}, graph 0 to {calm + storm}, graph 1 fc rgb '#f3e6e0' behind
set ylabel 'users served per second'
set yrange [0:*]
plot {lines('served')}
set ylabel 'p99, ms (log)'
set logscale y
set yrange [*:*]
plot {lines('p99_ms')}
unset logscale y
set ylabel 'bulk, MB/s'
set yrange [0:*]
set xlabel 'seconds'
plot {lines('bulk_mb_s')}
unset multiplot
"""
    subprocess.run(["gnuplot"], input=script, text=True, check=False)


def capacity_of(conninfo):
    """Requests a second that are answered there to this application with nobody else about."""
    load = lab.start([lab.tool("load"), conninfo, "--closed", f"--conns={APP_CONNECTIONS_N}",
                      f"--accounts={lab.ACCOUNTS_N}", f"--seconds={1 if lab.QUICK else 4}"],
                     first=True, cpus=CPUS[1], **lab.PIPES)
    whole = lab.spans(load)[-1]
    return whole["served"] / (whole["to_s"] - whole["from_s"])


def calibrate(pg, out):
    """The users' rate: what PostgreSQL can do, less what a pooler on the same cores takes of it."""
    if os.environ.get("RATE"):
        return int(os.environ["RATE"])
    direct = capacity_of(pg.conninfo())
    pooler = lab.Pooler(out, lab.pgbouncer_path(), pg, "calibration")
    pooler.start(first=True, cpus=CPUS[1])
    pooled = capacity_of(pooler.conninfo())
    pooler.stop()
    rate = int(CAPACITY_SHARE * min(direct, pooled))
    say(f"capacity: direct {direct:.0f}/s, pooled {pooled:.0f}/s; users come at {rate}/s")
    return rate


def choose_arms():
    arms = (os.environ.get("ARMS") or ",".join(QUICK_ARMS if lab.QUICK else ARMS)).split(",")
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        raise lab.Trouble(f"unknown arms: {unknown}; there are {', '.join(ARMS)}")
    if lab.weir_path() is None:
        say("pgweir is not built: its arms are left out, and nothing is judged of it")
        arms = [arm for arm in arms if arm not in ("off", "weir")]
    return arms


def main():
    out = lab.OUT / "drill"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    arms, results, storms = choose_arms(), [], []
    pg = lab.open_cluster(CPUS[0])
    try:
        rate = calibrate(pg, out)
        for arm in arms:
            say(f"{TITLES[arm]}: {sum(SECONDS.values())} s")
            results.append(run_arm(arm, pg, out, rate))
            write_arm_csv(results[-1], out)
        if not lab.QUICK and not os.environ.get("ARMS"):
            storms = storm.run(pg, out)
    finally:
        pg.stop()
    rows = list(summary_rows(results))
    with open(out / "summary.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    draw(results, out)
    verdicts = list(judge(results)) + list(storm.judge(storms))
    report = "\n".join([table(rows), "", *moving(results), *storm.report(storms), ""] + [
        f"{'ok    ' if holds else 'FAILED'}  {what}: {figures}"
        for what, holds, figures in verdicts])
    (out / "report.txt").write_text(report + "\n")
    print(report)
    print(f"\n{out}: a CSV for each arm, summary.csv, drill.png")
    return 0 if all(holds for _, holds, _ in verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.Trouble as trouble:
        say(f"drill: {trouble}")
        sys.exit(2)
