"""What bench.py is to find, and whether it did."""
import os
import re
import statistics
from typing import NamedTuple

import lab
from pair import Result


class Aim(NamedTuple):
    """`what` (a regular expression for all of it) of a part, in `unit`: the worst of those lines is
    at most `limit`, or at least where `least`. Judged is the median of their ratios, or of pgweir's
    own figures where `own`; where `mean`, the mean of all lines instead of the worst."""
    text: str
    part: str
    what: str
    unit: str
    limit: float
    least: bool = False
    own: bool = False
    mean: bool = False


US, CALLS, GB = "us/transaction", "per transaction", "CPU s per GB"
AIMS = [
    Aim("CPU a transaction no more than PgBouncer's", "CPU", ".*", US, 1.0),
    Aim("simple protocol, 16 clients: CPU 0.85 of PgBouncer's", "CPU", r"simple \w+ 16", US, 0.85),
    Aim("prepared statements, 16 clients: CPU no more than PgBouncer's in the simple protocol",
        "CPU", r"prepared beside simple \w+ 16", US, 1.0),
    Aim("1,000 clients on 20 servers: CPU 0.80 of PgBouncer's", "CPU", r"simple \w+ 1000", US,
        0.80),
    Aim("system calls a transaction no more than PgBouncer's", "system calls", ".*", CALLS, 1.0),
    Aim("TLS clients, 16: CPU 0.85 of PgBouncer's", "TLS", ".*", US, 0.85),
    Aim("TLS connections: CPU 0.9 of PgBouncer's", "handshake", ".*from scratch",
        "us CPU/connection", 0.9),
    Aim("TLS connections that resume a session: CPU 0.5 of PgBouncer's", "handshake", ".*resumed",
        "us CPU/connection", 0.5),
    Aim("connecting for each transaction, trust: CPU 0.9 of PgBouncer's", "login", "trust .*",
        "us CPU/login", 0.9),
    Aim("connecting for each transaction, SCRAM: CPU 0.7 of PgBouncer's", "login", "scram.*",
        "us CPU/login", 0.7),
    Aim("COPY out, small rows: CPU 0.35 of PgBouncer's", "COPY out", "small rows.*", GB, 0.35),
    Aim("COPY out, wide rows: CPU 0.22 of PgBouncer's", "COPY out", "wide rows.*", GB, 0.22),
    Aim("COPY out: 3 times PgBouncer's MB a CPU second", "COPY out", ".*", "MB per CPU second", 3.0,
        least=True),
    Aim("all signals cost at most 3 %: CPU a transaction", "signals", ".*", US, 1.03, mean=True),
    Aim("all signals cost at most 3 %: instructions a transaction", "signals", ".*", CALLS, 1.03,
        mean=True),
    Aim("an idle client at most 1 KiB", "memory", "(?!.*TLS).*", "bytes RSS/client", 1024,
        own=True),
    Aim("an idle client by TLS at most 12 KiB", "memory", ".*TLS.*", "bytes RSS/client", 12288,
        own=True),
    Aim("idle pools and users cost a transaction nothing", "pools", "CPU.*", US, 1.05),
    Aim("start with them in less than 0.5 s", "pools", "start.*", "s", 0.5, own=True),
    Aim("less than 50 MB with them", "pools", "memory.*", "MB RSS", 50, own=True),
    Aim("at most a tenth of transactions move a server between loops", "workers", ".*moved.*",
        "% of transactions", 10, own=True),
    Aim("equal clients wait alike: p99 1.5 times p50", "fairness", ".*", "p99/p50", 1.5, own=True),
]
# Two workers, stub and load, a core for each; with fewer cores only what a CPU second buys tells.
CORES_FOR_TWO = 4
AIMS.append(
    Aim("two workers: 1.8 times one worker's throughput", "workers", "two workers.*",
        "transactions/s", 1.8, least=True)
    if len(os.sched_getaffinity(0)) >= CORES_FOR_TWO else
    Aim(f"two workers: a CPU second buys 0.9 of what it does with one (throughput is judged with "
        f"{CORES_FOR_TWO} cores)", "workers", "two workers.*", "transactions/CPU s", 0.9,
        least=True))


def judge(results):
    """(aim, reached, figure) for each aim there are figures for."""
    for aim in AIMS:
        lines = [(lab.median(values), values, r.what) for r in results
                 if r.part == aim.part and r.unit == aim.unit and re.fullmatch(aim.what, r.what)
                 and (values := r.ours if aim.own else r.ratios())]
        if lines:
            yield aim.text, *verdict(aim, lines)


def verdict(aim, lines):
    """Whether the lines meet it, and the figure it was judged by."""
    x = "" if aim.own else "x"
    worst, values, where = (min if aim.least else max)(lines)
    mean = statistics.geometric_mean(max(line[0], 1e-9) for line in lines)
    judged = mean if aim.mean else worst
    figure = f"worst {x}{Result.spread(values, 3)}: {where}"
    if len(lines) > 1:
        figure = f"{x}{mean:.3g} on average, {figure}"
    return judged >= aim.limit if aim.least else judged <= aim.limit, figure
