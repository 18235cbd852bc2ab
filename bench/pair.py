"""What the parts of bench.py share: rounds and their length, the poolers, lines of the table."""
import os

import lab
from gauge import Pgbench
from lab import say

ROUNDS = int(os.environ.get("BENCH_ROUNDS") or (1 if lab.QUICK else 5))
SECONDS = float(os.environ.get("BENCH_SECONDS") or (1 if lab.QUICK else 2))
CPUS = lab.split_cpus()
PROTOCOLS = ["simple", "extended", "prepared"]
TRANSPORTS = ["tcp"] if lab.QUICK else ["tcp", "unix"]
CLIENTS_MAX = 11000
POOL_N = 20


class Result:
    """One line of the table: a figure of both, round by round."""

    def __init__(self, part, what, unit, theirs, ours, note="", better="less"):
        self.part, self.what, self.unit, self.note = part, what, unit, note
        self.theirs, self.ours, self.better = theirs, ours, better

    @staticmethod
    def spread(values, digits=2):
        if not values:
            return "-"
        middle = lab.median(values)
        digits = digits if middle < 100 else 0
        text = f"{middle:.{digits}f}"
        return text if len(values) < 2 else \
            f"{text} [{min(values):.{digits}f}-{max(values):.{digits}f}]"

    def ratios(self):
        return [o / t for o, t in zip(self.ours, self.theirs) if t]

    def row(self):
        return {"part": self.part, "what": self.what, "unit": self.unit,
                "pgbouncer": self.spread(self.theirs), "pgweir": self.spread(self.ours),
                "ratio": self.spread(self.ratios(), 3), "note": self.note}

    def csv_rows(self):
        for who, values in (("pgbouncer", self.theirs), ("pgweir", self.ours)):
            for i, value in enumerate(values):
                yield {"part": self.part, "what": self.what, "unit": self.unit, "who": who,
                       "round": i + 1, "value": f"{value:.6g}"}


# ---- the two -------------------------------------------------------------------------------------


# All that watches the traffic: nothing of it, and all of it.
SIGNALS = {
    "off": {"breaker": "off", "probe_interval": 0},
    "on": {"breaker": "enforce", "probe_interval": 1, "probe_query": "SELECT 1",
           "text": "[class interactive]\nslo_p99 = 100ms\n"}}


class Pair:
    """Both poolers, started with the same settings, pinned to the proxy's core."""

    def __init__(self, pg, out, theirs=None, **settings):
        settings = {"max_client_conn": CLIENTS_MAX, "default_pool_size": POOL_N, **settings}
        self.theirs = lab.Pooler(out, lab.pgbouncer_path(), pg, "pgbouncer",
                                 **{**settings, **(theirs or {})}).start(cpus=CPUS[1])
        self.ours = lab.Pooler(out, lab.weir_path(), pg, "pgweir", own={"workers": 1},
                               **settings).start(cpus=CPUS[1])

    @classmethod
    def of_signals(cls, pg, out):
        """pgweir twice: without its signals (as "theirs"), and with all of them."""
        pair = cls.__new__(cls)
        pair.theirs, pair.ours = (
            signals_pooler(pg, out, which).start(cpus=CPUS[1]) for which in ("off", "on"))
        return pair

    def turns(self, rounds=None):
        """(round, which, pooler), who goes first alternating, against whatever drifts."""
        for i in range(rounds or ROUNDS):
            turn = [("theirs", self.theirs), ("ours", self.ours)]
            for which, pooler in turn if i % 2 == 0 else reversed(turn):
                yield i, which, pooler

    def stop(self):
        for pooler in (self.theirs, self.ours):
            status = pooler.stop()
            if status != 0 and pooler.is_weir:
                say(f"{pooler.name} ended with {status}: see {pooler.log_path}")


def signals_pooler(pg, out, which, **own):
    return lab.Pooler(out, lab.weir_path(), pg, f"signals-{which}",
                      own={"workers": 1, **SIGNALS[which], **own}, max_client_conn=1000,
                      default_pool_size=POOL_N)


# ---- figures -------------------------------------------------------------------------------------


def both():
    """Room for the figures of either."""
    return {"theirs": [], "ours": []}


def cpu_us(pooler, clients, protocol="simple", unix=False, tls=False):
    """CPU microseconds of the pooler for one transaction of pgbench."""
    load = Pgbench(pooler.conninfo(unix=unix, tls=tls), clients, "-M", protocol, seconds=SECONDS)
    transactions, _, ns = load.window(lambda: lab.cpu_ns(pooler.pid))
    return ns / 1000 / transactions
