#!/usr/bin/env python3
"""The outage, re-enacted, and all that looks like one: scenarios, each through several arms.

    direct    straight to PostgreSQL
    off       pgweir with its protection switched off
    observe   pgweir that looks and says, and does not act
    weir      pgweir as shipped: an ini that PgBouncer would read, nothing configured
    strict    the same with protect = strict
    bouncer   PgBouncer as shipped, same ini
    tuned     PgBouncer tuned by hand for this very accident: a pool of two for the backup

scenarios.py says what is staged, stage.py how, bars.py what must hold. Users arrive at random times
at a share of the capacity measured first (through PgBouncer), wait a second for an answer, hang up,
and try three times in all. Written to build/drill: a CSV for each scenario and arm, a picture for
each scenario, summary.csv, report.txt. The exit status says whether all bars held.

Environment: SCENARIOS=a,b and ARMS=a,b choose; QUICK=1: each in a few seconds, proving only that it
can be staged; RATE=n, SEED=n; WEIR_INI=file with sections of one's own for the arm `weir`.
"""
import os
import shutil
import sys

sys.dont_write_bytecode = True  # all that is made lies in the build folder
import actors
import bars
import lab
import report
import stage
from lab import say
from scenarios import APP_CONNECTIONS_N, SCENARIOS

QUICK_ARMS = ("weir",)


def chosen(variable, known, default):
    names = [n for n in (os.environ.get(variable) or ",".join(default)).split(",") if n]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise lab.Trouble(f"{variable}: unknown {unknown}; there are {', '.join(known)}")
    return names


def arms_of(scenario):
    """Those asked for that the scenario knows, or its own; without pgweir's where it is not
    built."""
    asked = os.environ.get("ARMS")
    default = [a for a in scenario.arms if not lab.QUICK or a in QUICK_ARMS]
    arms = chosen("ARMS", list(stage.ARMS), default)
    if asked:
        # comparing with no pooler or with a pool of two makes no sense where that cannot be staged
        arms = [a for a in arms if a in scenario.arms or a in ("observe", "strict", "off")]
    if lab.weir_path() is None:
        arms = [a for a in arms if a not in stage.WEIR_ARMS]
    return arms


def calibrate(pg, out):
    """What PostgreSQL can do, less what a pooler on the same cores takes of it."""
    seconds = 1 if lab.QUICK else 4
    direct = stage.closed_capacity(pg.conninfo(), APP_CONNECTIONS_N, seconds)
    if lab.QUICK:  # which needs no PgBouncer
        return direct
    pooler = lab.Pooler(out, lab.pgbouncer_path(), pg, "calibration")
    pooler.start(first=True, cpus=stage.CPUS[1])
    pooled = stage.closed_capacity(pooler.conninfo(), APP_CONNECTIONS_N, seconds)
    pooler.stop()
    say(f"capacity: direct {direct:.0f}/s, pooled {pooled:.0f}/s")
    return min(direct, pooled)


def run(scenario, pg, out, capacity):
    """(results by arm, verdicts) of one scenario."""
    results = {}
    for arm in arms_of(scenario):
        results[arm] = stage.play(scenario, arm, pg, out, capacity)
        (out / f"{arm}.log").replace(out / f"{scenario.name}-{arm}.log") \
            if (out / f"{arm}.log").exists() else None
    every = [bars.works(scenario)] if lab.QUICK else scenario.bars
    verdicts = [v for bar in [*every, bars.in_order] for v in bar(results)]
    return results, verdicts


def main():
    out = lab.OUT / "drill"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    lab.raise_descriptor_limit()
    names = [s.name for s in SCENARIOS]
    asked = chosen("SCENARIOS", names, names)
    if lab.weir_path() is None:
        say("pgweir is not built: its arms are left out, and nothing is judged of it")
    pg = lab.open_cluster(stage.CPUS[0])
    rows, failed_n, parts = [], 0, []
    try:
        with lab.Session(pg.port, database=lab.DATABASE) as control:
            control.ask(actors.NAP)
        capacity = calibrate(pg, out)
        for scenario in [s for s in SCENARIOS if s.name in asked]:
            why = next((w for w in (a.why_not(pg) for a in scenario.actors) if w), None)
            if why or not arms_of(scenario):
                parts.append(f"== {scenario.name}: left out: {why or 'no arm of it was chosen'}\n")
                print(parts[-1], flush=True)
                continue
            results, verdicts = run(scenario, pg, out, capacity)
            failed_n += sum(holds is False for _, holds, _ in verdicts)
            more, text = report.write(scenario, results, verdicts, out)
            rows += more
            parts.append(text)
            print(text, flush=True)
    finally:
        pg.stop()
    report.write_csv(out / "summary.csv", rows)
    parts.append(f"{failed_n} bars missed" if failed_n else "all bars held")
    (out / "report.txt").write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"{parts[-1]}; {out}: report.txt, summary.csv, a CSV for each arm, a picture each")
    return 1 if failed_n else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.Trouble as trouble:
        say(f"drill: {trouble}")
        sys.exit(2)
