"""Results on paper: a CSV for each arm, a summary, tables and pictures."""
import csv
import shutil
import subprocess

from bars import blame
from stage import ARMS
from lab import say


def write_csv(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, names)
        writer.writeheader()
        writer.writerows(rows)


def summary_rows(scenario, results):
    """A line for each arm and span."""
    for arm, r in results.items():
        for span in ("calm", "onset", "storm", "after"):
            if r.spans and span not in r.spans:
                continue
            s = r.spans.get(span, {})
            trouble = span == "storm"
            rates = r.bulk_mb_s() if trouble else []
            action = r.first_action_s() if trouble else None
            yield {"scenario": scenario.name, "arm": arm, "span": span,
                   "offered": s.get("offered", ""),
                   "served_percent": f"{100 * s['served'] / max(1, s['offered']):.2f}" if s else "",
                   "gaveup": s.get("gaveup", ""), "failed": s.get("failed", ""),
                   "p50_ms": s.get("p50_ms", ""), "p99_ms": s.get("p99_ms", ""),
                   "max_ms": s.get("max_ms", ""),
                   "bulk_mb_s": f"{sum(rates) / len(rates):.1f}" if trouble else "",
                   "bulk_done": r.told.get("done", "") if trouble else "",
                   "first_action_s": f"{action:.2f}" if action is not None else "",
                   "errors": " ".join(f"{k}:{v}" for k, v in s.get("errors", {}).items()),
                   "bulk_errors": " ".join(f"{k}:{v}" for k, v in r.errors.items())
                   if trouble else ""}


def table(rows):
    names = [n for n in rows[0] if n != "scenario"]
    widths = [max(len(n), *(len(str(r[n])) for r in rows)) for n in names]
    lines = ["  ".join(n.ljust(w) for n, w in zip(names, widths))]
    lines += ["  ".join(str(r[n]).ljust(w) for n, w in zip(names, widths)) for r in rows]
    return "\n".join(line.rstrip() for line in lines)


def breaker_lines(results):
    """What each breaker did, with its reasons."""
    for arm, r in results.items():
        if not r.transitions:
            continue
        yield f"{ARMS[arm]}: {blame(r)[3]}"
        begin = r.span_s("trouble")[0]
        for at_s, before, after, why in r.transitions[:20]:
            yield f"  {at_s - begin:+7.2f} s  {before} -> {after}: {why}"


def draw(scenario, results, out):
    if not shutil.which("gnuplot"):
        say("no gnuplot: no pictures")
        return
    seconds = {arm: r.span_s("trouble")[0] for arm, r in results.items()}
    # Arms may have calms of different length; the trouble begins at 0 in the picture.
    before = max(seconds.values())
    after = max(sum(r.seconds.values()) - seconds[arm] for arm, r in results.items())
    length = next(iter(results.values())).seconds["trouble"]

    def lines(column):
        return ", \\\n  ".join(
            f"'{out / f'{scenario.name}-{arm}.csv'}' using (column('t')-{seconds[arm]}):"
            f"'{column}' with lines lw 2 lc {list(ARMS).index(arm) + 1} title '{ARMS[arm]}'"
            for arm in results)

    def users(what):
        return what if scenario.users is not None else ""

    height = 1100 if scenario.users is not None else 420
    script = f"""
set terminal pngcairo noenhanced size 1200,{height} font 'sans,11'
set output '{out / f'{scenario.name}.png'}'
set datafile separator ','
set multiplot layout {3 if scenario.users is not None else 1},1 title "{scenario.title}"
set grid
set key outside right top
set xrange [{-before}:{after}]
set object 1 rectangle from 0, graph 0 to {length}, graph 1 fc rgb '#f3e6e0' behind
{users(f'''
set ylabel 'users served per second'
set yrange [0:*]
plot {lines('served')}
set ylabel 'p99, ms (log)'
set logscale y
set yrange [*:*]
plot {lines('p99_ms')}
unset logscale y''')}
set yrange [0:*]
set ylabel 'bulk, MB/s'
set xlabel 'seconds since the trouble began'
plot {lines('bulk_mb_s')}
unset multiplot
"""
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
    if done.returncode:
        say(f"{scenario.name}: no picture: {done.stderr.strip()[-300:]}")


def write(scenario, results, verdicts, out):
    """Everything about one scenario; its part of the report."""
    for arm, r in results.items():
        write_csv(out / f"{scenario.name}-{arm}.csv", r.rows)
    draw(scenario, results, out)
    rows = list(summary_rows(scenario, results))
    lines = [f"== {scenario.name}: {scenario.title}", "", table(rows), "",
             *breaker_lines(results), ""]
    marks = {True: "ok    ", False: "FAILED", None: "      "}
    lines += [f"{marks[holds]}  {what}: {figures}" for what, holds, figures in verdicts]
    return rows, "\n".join(lines) + "\n"


