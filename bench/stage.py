"""One scenario through one arm: the pooler, the users, the actors by the clock, what was seen.

PostgreSQL has one core to itself, all others run on the rest; users and pooler go before the bulk
there, for they would not share a machine with it. Four times a second everything is looked at; the
first action of a breaker is read from pgweir's log, which has milliseconds.
"""
import calendar
import csv
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import actors
import lab
from lab import say

CPUS = lab.split_cpus()
PHASES = ["calm", "trouble", "after"]
CALM_S, CALM_WEIR_S = 10, 20  # pgweir trusts what it has learnt of latency after 8 s of calm
ALONE_S = 5
QUICK_S = {"calm": 2, "trouble": 3, "after": 1}
LOOKS_PER_S = 4
NAP_POOL_N = 20

# All classes of one rank, nobody demoted, nothing reserved, nobody held back.
PROTECTION_OFF = """
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
"""
ARMS = {"direct": "direct", "off": "pgweir, protection off", "observe": "pgweir, observing",
        "weir": "pgweir as shipped", "strict": "pgweir, protect = strict",
        "bouncer": "PgBouncer as shipped", "tuned": "PgBouncer hand-tuned"}
WEIR_ARMS = {"off": {"breaker": "off", "text": PROTECTION_OFF}, "observe": {"breaker": "observe"},
             "weir": {}, "strict": {"protect": "strict"}}


@dataclass
class Result:
    """What came of it. rows: one for each bin of the users' clock; spans: the phases summed up."""
    arm: str
    seconds: dict
    rows: list = field(default_factory=list)
    spans: dict = field(default_factory=dict)
    told: dict = field(default_factory=dict)     # of the actors
    errors: dict = field(default_factory=dict)   # of bulk, by SQLSTATE
    looks: list = field(default_factory=list)    # (second, {class: breaker row})
    transitions: list = field(default_factory=list)
    counted: dict = field(default_factory=dict)  # SHOW UPSTREAMS at the end
    capacity: float = 0.0
    rate: float = 0.0
    exit_status: int = 0

    def span_s(self, phase):
        begin = sum(self.seconds[p] for p in PHASES[:PHASES.index(phase)])
        return begin, begin + self.seconds[phase]

    def bulk_mb_s(self, phase="trouble"):
        """Megabytes a second of all readers, second by second."""
        begin, end = self.span_s(phase)
        return [self.told.get("moved", {}).get(s, 0.0) for s in range(begin, end)]

    def first_action_s(self):
        """From the beginning of the trouble to the first thing a breaker did; None: nothing."""
        begin, end = self.span_s("trouble")
        for at_s, _, to, _ in self.transitions:
            if begin <= at_s < end and to != "closed":
                return at_s - begin
        return None


class Stage:
    """The clock and the addresses, for actors to look at."""

    def __init__(self, scenario, arm, pg, out, capacity):
        self.scenario, self.arm, self.pg, self.out = scenario, arm, pg, out
        self.cpus, self.pg_cpus = CPUS[1], CPUS[0]
        self.pooler_is_weir = arm in WEIR_ARMS
        self.seconds = dict(QUICK_S) if lab.QUICK else {
            "calm": CALM_WEIR_S if self.pooler_is_weir else CALM_S,
            "trouble": scenario.trouble_s, "after": scenario.after_s}
        if scenario.lone and not self.pooler_is_weir and not lab.QUICK:
            self.seconds["after"] = ALONE_S  # nobody there who could let it run or not
        if scenario.users is None:
            self.seconds["calm"] = QUICK_S["calm"]
        self.length_s = sum(self.seconds.values())
        self.result = Result(arm, self.seconds)
        self.pooler, self.users_at, self.bulk_at = self._open()
        self.capacity, self.rate = capacity, 0.0
        self.begun = self.begun_wall = 0.0
        self.users = None
        self.actors = list(scenario.actors)
        if scenario.lone and self.pooler_is_weir and not lab.QUICK:
            self.actors.append(actors.Readers(1, names="pgbackrest", phase="after"))

    def now_s(self):
        return time.monotonic() - self.begun

    def phase_begin_s(self, phase):
        return self.result.span_s(phase)[0]

    def phase_end_s(self, phase):
        return self.result.span_s(phase)[1]

    def _open(self):
        """The pooler of the arm (None: direct), the users' conninfo, the bulk's."""
        settings, pg = self.scenario.pooler, self.pg
        if self.arm == "direct":
            return None, pg.conninfo(), pg.conninfo()
        if self.arm in WEIR_ARMS:
            own = dict(WEIR_ARMS[self.arm])
            if self.arm == "weir" and os.environ.get("WEIR_INI"):
                own["text"] = Path(os.environ["WEIR_INI"]).read_text(encoding="utf-8")
            pooler = lab.Pooler(self.out, lab.weir_path(), pg, self.arm, own=own, **settings)
            return pooler, pooler.conninfo(), pooler.conninfo()
        databases = None
        if self.arm == "tuned":
            here = f"host=127.0.0.1 port={pg.port} dbname={lab.DATABASE}"
            databases = {lab.DATABASE: here, "nightly": f"{here} pool_size=2"}
        pooler = lab.Pooler(self.out, lab.pgbouncer_path(), pg, self.arm, databases=databases,
                            **settings)
        bulk = pooler.conninfo(user="backup", database="nightly") if databases else \
            pooler.conninfo()
        return pooler, pooler.conninfo(), bulk


# ---- users --------------------------------------------------------------------------------------


def closed_capacity(conninfo, conns, seconds, *more):
    """Requests a second that are answered there to so many connections with nobody else about."""
    load = lab.start([lab.tool("load"), conninfo, "--closed", f"--conns={conns}",
                      f"--accounts={lab.ACCOUNTS_N}", f"--seconds={seconds}", *more],
                     first=True, cpus=CPUS[1], **lab.PIPES)
    whole = lab.spans(load)[-1]
    return whole["served"] / (whole["to_s"] - whole["from_s"])


def users_command(stage):
    """The command line of bench/load for the users of the scenario."""
    users, seconds = stage.scenario.users, stage.seconds
    more = list(users.options)
    if users.nap_share:
        more.append("--sql=SELECT nap()")
        stage.capacity = closed_capacity(stage.users_at, 2 * NAP_POOL_N,
                                         1 if lab.QUICK else 3, *more)
        stage.rate = users.nap_share * stage.capacity
    else:
        stage.rate = users.share * stage.capacity
    if os.environ.get("RATE"):
        stage.rate = float(os.environ["RATE"])
    if users.profile:
        scale = seconds["trouble"] / stage.scenario.trouble_s
        points = [f"{stage.phase_begin_s(phase) + at_s * scale:g}:{factor:g}"
                  for phase, at_s, factor in users.profile]
        more.append(f"--profile={','.join(points)}")
    grace = min(stage.scenario.grace_s, seconds["trouble"] - 1)
    marks = [seconds["calm"], seconds["calm"] + grace]
    if seconds["after"]:
        marks.append(seconds["calm"] + seconds["trouble"])
    return [lab.tool("load"), stage.users_at,
            "--closed" if users.closed else f"--rate={stage.rate:.1f}",
            f"--seconds={stage.length_s}", f"--conns={users.conns}",
            f"--accounts={lab.ACCOUNTS_N}", f"--marks={','.join(map(str, marks))}",
            f"--bin={users.bin_s}", f"--csv={stage.out / (stage.arm + '-users.csv')}",
            f"--seed={os.environ.get('SEED', '1')}", *more]


def start_users(stage):
    if stage.scenario.users is None:
        return None
    users = lab.start(users_command(stage), first=True, cpus=CPUS[1], **lab.PIPES)
    if users.stderr.readline().strip() != "ready":
        raise lab.Trouble(f"{stage.arm}: the users could not connect: {users.stderr.read()}")
    return users


def end_users(stage):
    """Their spans by name, and their CSV, which goes."""
    result, path = stage.result, stage.out / f"{stage.arm}-users.csv"
    if stage.users is None:
        result.rows = [{"t": str(s)} for s in range(stage.length_s)]
        return
    names = ["calm", "onset", "storm"] + (["after"] if stage.seconds["after"] else [])
    result.spans = dict(zip(names + ["whole"], lab.spans(stage.users)))
    result.rate, result.capacity = stage.rate, stage.capacity
    with open(path, newline="", encoding="utf-8") as f:
        result.rows = list(csv.DictReader(f))
    path.unlink()


# ---- what is seen -------------------------------------------------------------------------------


class Breakers:
    """pgweir's console, four times a second; nothing where there is none."""

    def __init__(self, stage):
        self.stage, self.session = stage, None

    def ask(self, what):
        if not self.stage.pooler_is_weir:
            return []
        try:
            self.session = self.session or self.stage.pooler.console()
            return self.session.ask(what)
        except (OSError, lab.PgError):
            self.session = None
            return []

    def look(self):
        rows = self.ask("SHOW BREAKERS")
        if rows:
            self.stage.result.looks.append(
                (self.stage.now_s(), {row["class"]: row for row in rows}))


STAMP = re.compile(r"(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)\.(\d+) UTC .* breaker upstream="
                   r".* from=(\w+) to=(\w+) class=([\w-]+) why=\"([^\"]*)\"")


def transitions_of(stage):
    """(second, from, to, why) of each line a latency breaker wrote, by the stage's clock."""
    if not stage.pooler_is_weir:
        return
    for line in stage.pooler.log_path.read_text(errors="replace").splitlines():
        found = STAMP.match(line)
        if not found or "error breaker" in line:
            continue
        numbers = [int(n) for n in found.groups()[:7]]
        wall = calendar.timegm((*numbers[:6], 0, 0, 0)) + numbers[6] / 1000
        yield wall - stage.begun_wall, found[8], found[9], found[11]


def add_bulk(stage):
    """Joins users, bulk and breakers, bin by bin."""
    result, moved = stage.result, {}
    for actor in stage.actors:
        for second, mb in actor.moved().items():
            moved[second] = moved.get(second, 0) + mb
    result.told["moved"] = moved
    by_second, pressure = {}, {}
    for at_s, classes in result.looks:
        pressure[int(at_s)] = max(pressure.get(int(at_s), 0.0),
                                  *(float(row["p"]) for row in classes.values()))
        worst = by_second.setdefault(int(at_s), {})
        for name, row in classes.items():
            if name not in worst or float(row["g"]) <= worst[name][1]:
                worst[name] = (row["state"], float(row["g"]))
    for row in result.rows:
        second = int(float(row["t"]))
        row["bulk_mb_s"] = f"{moved.get(second, 0.0):.1f}"
        row["pressure"] = f"{pressure[second]:.2f}" if second in pressure else ""
        row["breakers"] = " ".join(f"{name}={state}/{g:.3g}" for name, (state, g)
                                   in sorted(by_second.get(second, {}).items()))
    action = result.first_action_s()
    if result.rows:
        result.rows[0]["first_action_s"] = "" if action is None else f"{action:.3f}"


# ---- the play -----------------------------------------------------------------------------------


def act_and_watch(stage):
    """Actors come and go by the clock, and take their notes; so do we."""
    breakers = Breakers(stage)
    waiting, acting = list(stage.actors), []
    for look in range(stage.length_s * LOOKS_PER_S):
        at_s = look / LOOKS_PER_S
        time.sleep(max(0.0, at_s - stage.now_s()))
        for actor in [a for a in acting if at_s >= stage.phase_end_s(a.phase)]:
            acting.remove(actor)
            actor.end()
        for actor in [a for a in waiting if at_s >= stage.phase_begin_s(a.phase)]:
            waiting.remove(actor)
            acting.append(actor)
            actor.begin(stage)
        for actor in [a for a in stage.actors if a not in waiting]:
            actor.note()
        breakers.look()
    for actor in acting:
        actor.end()
    stage.result.counted = next(iter(breakers.ask("SHOW UPSTREAMS")), {})


def play(scenario, arm, pg, out, capacity):
    """One calm - trouble - after; everything seen."""
    stage = Stage(scenario, arm, pg, out, capacity)
    say(f"{scenario.name}, {ARMS[arm]}: {stage.length_s} s")
    if stage.pooler:
        stage.pooler.start(first=True, cpus=CPUS[1])
    try:
        stage.users = start_users(stage)
        stage.begun, stage.begun_wall = time.monotonic(), time.time()
        act_and_watch(stage)
        end_users(stage)
        for actor in stage.actors:
            actor.close()
    finally:
        stage.result.exit_status = stage.pooler.stop() if stage.pooler else 0
    result = stage.result
    result.transitions = list(transitions_of(stage))
    for actor in stage.actors:
        for code, n in actor.told.pop("errors", {}).items():
            result.errors[code] = result.errors.get(code, 0) + n
        for name, value in actor.told.items():
            sums = name in ("done", "dumps_failed")
            result.told[name] = result.told.get(name, 0) + value if sums else value
    add_bulk(stage)
    return result
