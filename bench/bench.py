#!/usr/bin/env python3
"""pgweir beside PgBouncer, in the same run, by turns (A B A B ...), on the same PostgreSQL.

What is compared is what the proxy costs, not how long the machine took: CPU time of its process
from /proc/PID/task/*/schedstat (nanoseconds, no ticks), system calls, memory. A ratio is pgweir's
figure by PgBouncer's of the same round; the median of the rounds is given, and their range. Then
each aim is told, and whether it was reached.

PostgreSQL and the load have one core, the proxy the other; one worker for all but the part about
workers, where nobody is pinned. Written to build/bench: result.md, result.csv.

Environment: BENCH_ROUNDS=n (5), BENCH_SECONDS=s (2), PARTS=a,b, QUICK=1, PGBOUNCER=path of another
PgBouncer, WEIR=path of another pgweir.
"""
import csv
import os
import platform
import sys

sys.dont_write_bytecode = True  # all that is made lies in the build folder
import lab
from aims import judge
from arriving import part_handshake, part_login
from crowd import part_fairness, part_idle, part_pools, part_workers
from lab import say
from pair import CPUS, ROUNDS, SECONDS
from relaying import part_copy, part_select, part_signals, part_tls

PARTS = {"signals": part_signals, "select": part_select, "tls": part_tls, "copy": part_copy,
         "login": part_login, "handshake": part_handshake, "idle": part_idle, "pools": part_pools,
         "workers": part_workers, "fairness": part_fairness}


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def markdown(results):
    rows = [r.row() for r in results]
    names = list(rows[0])
    widths = [max(len(n), *(len(r[n]) for r in rows)) for n in names]

    def line(cells_of):
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells_of, widths)) + " |"

    lines = [f"# pgweir beside {lab.pgbouncer_version(lab.pgbouncer_path())}", "",
             f"{machine()}; {ROUNDS} rounds of {SECONDS:g} s each, by turns. "
             "Median [range]; ratio: pgweir by PgBouncer, round by round.", "",
             line(names), line(["-" * w for w in widths])]
    lines += [line([r[n] for n in names]) for r in rows]
    lines += [""] + [f"- {'reached' if ok else '**not reached**'}: {aim} ({figure})"
                     for aim, ok, figure in judge(results)]
    return "\n".join(lines) + "\n"


def write(results, out):
    text = markdown(results)
    (out / "result.md").write_text(text, encoding="utf-8")
    with open(out / "result.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, ["part", "what", "unit", "who", "round", "value"])
        writer.writeheader()
        for result in results:
            writer.writerows(result.csv_rows())
    return text


def main():
    if lab.weir_path() is None:
        raise lab.Trouble("pgweir is not built: make")
    chosen = (os.environ.get("PARTS") or ",".join(PARTS)).split(",")
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise lab.Trouble(f"unknown parts: {unknown}; there are {', '.join(PARTS)}")
    lab.raise_descriptor_limit()
    out = lab.OUT / "bench"
    out.mkdir(parents=True, exist_ok=True)
    results = []
    pg = lab.open_cluster(CPUS[0])
    try:
        for part in chosen:
            results += list(PARTS[part](pg, out))
    finally:
        pg.stop()
    print(write(results, out))
    print(f"{out}: result.md, result.csv")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lab.Trouble as trouble:
        say(f"bench: {trouble}")
        sys.exit(2)
