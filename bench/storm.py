#!/usr/bin/env python3
"""The retry storm: does goodput come back when the database does?

Sixty clients ask for something that takes 10 ms, through a pool of 20 in transaction mode. One that
has no answer after 250 ms hangs up, connects again and asks again. For five seconds each query
takes 1 s and each server login 1 s more; then the database is healthy again. What keeps such a
storm alive is work for clients that are gone: queued requests nobody waits for, queries running on
for nobody, servers closed and logged in again one by one.

Reported for PgBouncer and pgweir: queries answered in time before, during and after, and when the
rate was back at 90 % of the first. Run by `make drill`, or alone; QUICK=1 for shorter calms.
"""
import csv
import sys
import time

sys.dont_write_bytecode = True  # all that is made lies in the build folder
import lab
from lab import say

CLIENTS_N, POOL_N, PATIENCE_MS = 60, 20, 250
BIN_S = 0.25
RECOVERED_SHARE, RECOVERED_S = 0.9, 2.0
BEFORE_S, SICK_S, AFTER_S = (4, 5, 6) if lab.QUICK else (8, 5, 12)
SETUP = """
    DROP TABLE IF EXISTS nap_for;
    CREATE TABLE nap_for (seconds float8);
    INSERT INTO nap_for VALUES (0.01);
    GRANT SELECT ON nap_for TO app;
    CREATE OR REPLACE FUNCTION nap() RETURNS void LANGUAGE sql AS
        'SELECT pg_sleep(seconds) FROM public.nap_for'"""


def make_sick(control, sick):
    """Query time and login time of the server. Logins are slowed where PostgreSQL itself can:
    its developers' post_auth_delay, read by every new backend."""
    control.ask(f"UPDATE nap_for SET seconds = {1 if sick else 0.01}")
    control.ask(f"ALTER SYSTEM SET post_auth_delay = {1 if sick else 0}")
    control.ask("SELECT pg_reload_conf()")


def goodput(csv_path):
    """Answers per second in every bin."""
    with open(csv_path, newline="", encoding="utf-8") as f:
        return [int(row["served"]) / BIN_S for row in csv.DictReader(f)]


def recovery_s(rates, healthy_s, wanted):
    """Seconds from the database's recovery to the first whole second at the wanted rate."""
    window = int(1 / BIN_S)
    for i in range(int(healthy_s / BIN_S), len(rates) - window + 1):
        if sum(rates[i:i + window]) / window >= wanted:
            return max(0.0, i * BIN_S - healthy_s)
    return None


def run_arm(name, binary, pg, out):
    """One pooler through health, sickness and health."""
    pooler = lab.Pooler(out, binary, pg, f"storm-{name}", default_pool_size=POOL_N,
                        max_client_conn=5000).start()
    csv_path = out / f"storm-{name}.csv"
    total_s = BEFORE_S + SICK_S + AFTER_S
    with lab.Session(pg.port, database=lab.DATABASE) as control:
        load = lab.start(
            [lab.tool("load"), pooler.conninfo(), "--closed", f"--conns={CLIENTS_N}",
             f"--timeout-ms={PATIENCE_MS}", "--attempts=1", "--sql=SELECT nap()",
             "--protocol=simple", f"--bin={BIN_S}", f"--seconds={total_s}", f"--csv={csv_path}"],
            **lab.PIPES)
        if load.stderr.readline().strip() != "ready":
            raise lab.Trouble(f"{name}: the clients could not connect: {load.stderr.read()}")
        begun = time.monotonic()
        try:
            time.sleep(BEFORE_S)
            make_sick(control, True)
            time.sleep(max(0.0, begun + BEFORE_S + SICK_S - time.monotonic()))
        finally:
            make_sick(control, False)
        healthy_s = time.monotonic() - begun
        errors = lab.spans(load)[-1]["errors"]
    status = pooler.stop()
    rates = goodput(csv_path)
    cut = int(BEFORE_S / BIN_S)
    first = sum(rates[4:cut]) / (cut - 4)  # the first second is the crowd's arrival
    last = rates[-int(2 / BIN_S):]
    during = rates[cut + 4:int((BEFORE_S + SICK_S) / BIN_S)]
    return {"arm": name, "before": first, "during": sum(during) / len(during),
            "last": sum(last) / len(last), "errors": errors, "exit_status": status,
            "recovery_s": recovery_s(rates, healthy_s, RECOVERED_SHARE * first)}


def run(pg, out):
    """Results of both poolers, pgweir's only where it is built."""
    with lab.Session(pg.port, database=lab.DATABASE) as control:
        control.ask(SETUP)
    arms = [("bouncer", lab.pgbouncer_path())]
    if lab.weir_path():
        arms.append(("weir", lab.weir_path()))
    results = []
    for name, binary in arms:
        say(f"retry storm, {name}: {BEFORE_S + SICK_S + AFTER_S} s")
        results.append(run_arm(name, binary, pg, out))
    return results


def report(results):
    """A line for each pooler."""
    lines = []
    for r in results:
        back = "never" if r["recovery_s"] is None else f"{r['recovery_s']:.2f} s"
        errors = " ".join(f"{code}:{n}" for code, n in r["errors"].items())
        lines.append(f"retry storm, {r['arm']:8} {r['before']:6.0f}/s before, {r['during']:5.0f}/s "
                     f"during, {r['last']:6.0f}/s at the end; back at 90 % after {back}; {errors}")
    return lines


def judge(results):
    """(condition, holds, figures), as in drill.py."""
    for r in results:
        if r["arm"] != "weir":
            continue
        back = r["recovery_s"]
        stays = r["last"] >= RECOVERED_SHARE * r["before"]
        yield (f"retry storm: 90 % of the first rate within {RECOVERED_S:g} s",
               back is not None and back <= RECOVERED_S and stays,
               f"{'never' if back is None else f'{back:.2f} s'}, "
               f"{100 * r['last'] / max(r['before'], 1):.0f} % at the end")
        yield ("retry storm: pgweir ended in order", r["exit_status"] == 0,
               f"exit status {r['exit_status']}")


def main():
    out = lab.OUT / "drill"
    out.mkdir(parents=True, exist_ok=True)
    pg = lab.open_cluster()
    try:
        results = run(pg, out)
    finally:
        pg.stop()
    print(*report(results), sep="\n")
    verdicts = list(judge(results))
    for what, holds, figures in verdicts:
        print(f"{'ok    ' if holds else 'FAILED'}  {what}: {figures}")
    return 0 if all(holds for _, holds, _ in verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.Trouble as trouble:
        say(f"storm: {trouble}")
        sys.exit(2)
