#!/usr/bin/env python3
"""Plays the reference model and writes what it saw and answered as traces for t_model.

    compare.py --check build/tests/t_model  fresh traces from random seeds and from the simulator's
                                            scenarios, compared at once; nothing is kept
    compare.py --golden tests/model/golden  writes the small traces that are committed

The model is looked for in $SHARED (a folder with core.py and sim.py), then in
../shared/overload_model. Without it --check says so and leaves the comparison to the golden traces,
which t_model plays by itself.

Two things make equality exact rather than near: every duration is a whole number of microseconds
that survives the way through seconds and back, and every tick comes a little off the tenth of a
second, so that no comparison of times hangs on the last bit of a sum of tenths.
"""
import argparse
import math
import os
import random
import subprocess
import sys
import tempfile

TICK_US = 100000
OFFSET_US = 10000
CAPS = {"backup": 8, "bulk": 30, "etl": 12}
TRICKLE = 1000000
# S1 postmortem, S2 boiling frog, S8 heavier deploy,
# S10 non-streaming, S11 few users, S13 two classes
SCENARIOS = {"S1": 98, "S2": 108, "S8": 98, "S10": 98, "S11": 98, "S13": 98}


def exact(us):
    """The next microsecond count that is the same after us / 1e6 * 1e6."""
    us = max(1, int(us))
    while us / 1e6 * 1e6 != us:
        us += 1
    return us


class Trace:
    """Feeds a fresh model with one tick after the other and writes both sides down."""

    def __init__(self, core, path, classes, cfg):
        self.core = core
        self.cfg = dict(core.DEF)
        self.cfg.update(t50=3.0, t90=4.5)
        self.cfg.update(cfg)
        self.out = open(path, "w")
        self.names = [name for name, _ in classes]
        self.use = {name: (0, 0, 0, 0) for name in self.names}
        self.cancels = {}
        self.estimator = core.Estimator(self.cfg)
        sheds = [core.Shed(n, CAPS[n], 2.0 * TRICKLE, float(TRICKLE), ok) for n, ok in classes]
        hooks = dict(use=lambda n: (self.use[n][0], float(self.use[n][3]), self.use[n][1]),
                     queued=lambda n: self.use[n][2] > 0, cancel=self.cancel)
        self.log = []
        self.breaker = core.Breaker(self.cfg, sheds, hooks, lambda *a: self.log.append(a))
        self.last_us = 0
        self.shown = None
        self.put("opt warmup_us %d" % round(self.cfg["warmup"] * 1e6))
        self.put("opt slow50 %g" % self.cfg["t50"])
        self.put("opt slow90 %g" % self.cfg["t90"])
        if self.cfg["slo"]:
            self.put("opt slo_p99_us %d" % round(self.cfg["slo"] * 1e6))
        if self.cfg.get("cap"):
            self.put("opt anchor_cap %g" % self.cfg["cap"])
        for name, ok in classes:
            self.put("class %s %d %d" % (name, TRICKLE, ok))

    def put(self, line):
        self.out.write(line + "\n")

    def cancel(self, name, n):
        n = min(n, self.use[name][1])
        self.cancels[name] = self.cancels.get(name, 0) + n
        return n

    def overdue(self, inflight, now_us):
        """As simulated: an older statement counts again half a second after an intervention. Only
        those that can matter are written down."""
        chosen = []
        for fp, age_us in inflight:
            norm = self.estimator.base.get(fp)
            if norm is None or math.log2(age_us) - norm[0] < 2.9:
                continue
            chosen.append((fp, exact(age_us)))
        if chosen:
            self.put("V" + "".join(" %s%d" % (chr(97 + fp), us) for fp, us in chosen))
        now, cut = now_us / 1e6, self.estimator.cut
        return [(fp, us / 1e6) for fp, us in chosen
                if (now_us - us) / 1e6 >= cut or now - cut > 0.5]

    def put_use(self, use):
        for i, name in enumerate(self.names):
            new = use.get(name, (0, 0, 0, 0))
            if new != self.use[name] or self.shown is None:
                active, nonstreaming, queued, rate = new
                self.put("U %d %d %d %d %d %d" %
                         (i, active, nonstreaming, queued, CAPS[name], rate))
            self.use[name] = new

    def tick(self, now_us, observed, wait_us, queue_empty, head_us, inflight, use, stalled):
        """observed: (fingerprint, service us, us since it ended); use: class -> (active,
        nonstreaming, queued, bytes per second)."""
        est, now = self.estimator, now_us / 1e6
        tokens = []
        for fp, us, ago_us in observed:
            us, digit = exact(us), min(9, int(ago_us) // OFFSET_US)
            tokens.append(" %s%d%d" % (chr(97 + fp), digit, us))
            est.obs(fp, (now_us - digit * OFFSET_US - us) / 1e6, us / 1e6)
        if tokens:
            self.put("O" + "".join(tokens))
        if wait_us is not None:
            self.put("W %d" % wait_us)
            est.obs_wait(wait_us / 1e6)
        if queue_empty:
            est.ring[est.k].q0 = True
        over = self.overdue(inflight, now_us)
        self.put_use(use)
        since_us = now_us - self.last_us
        late = since_us > 250000
        self.last_us = now_us
        if late:
            est.ring[est.k] = self.core.Slice()
            est.cut = now
        p = est.pressure(now, [] if late else over, head_us / 1e6)
        self.cancels = {}
        ticks = now > self.cfg["warmup"]
        if ticks:
            self.breaker.tick(now, p, est, late or stalled)
        est.close_slice(now, self.breaker.mode == "CLOSED" and p < 0.7 and not stalled and not late)
        flags = "q" * queue_empty + "b" * ticks + "s" * stalled
        self.put("T %d %d %s" % (since_us, head_us, flags))
        self.answer(p)
        return p

    def answer(self, p):
        shown = (self.breaker.mode.lower(), tuple("%.9g" % c.g for c in self.breaker.cl),
                 tuple(self.cancels.get(n, 0) for n in self.names))
        if shown == self.shown:
            self.put("=%.8g" % p)
            return
        self.shown = shown if not any(shown[2]) else ()
        self.put("=%.8g %s %s %s" % (p, shown[0], ",".join(shown[1]), ",".join(map(str, shown[2]))))

    def close(self):
        self.out.close()
        return self.log


def random_trace(core, path, seed, seconds, cfg):
    """A caricature of a database: latencies follow what runs, and who is guilty is drawn by lot, as
    are stalls, own pauses, dead databases, bursts, and statements nobody saw before."""
    r = random.Random(seed)
    classes = [("backup", False), ("bulk", True)] if r.random() < 0.7 else \
        [("backup", False), ("etl", True), ("bulk", True)]
    warmup = 8.0 if cfg.get("cap") else r.choice([4.0, 6.0])
    trace = Trace(core, path, classes, dict(cfg, warmup=warmup))
    guilt = {n: r.choice([0, 0, 0.5, 1, 4]) for n, _ in classes}
    stuck = {n: r.random() < 0.4 for n, _ in classes}
    rate = r.choice([8, 16, 40]) if not cfg.get("cap") else 24  # the cap needs a norm to start from
    norms = [300, 900, 2500, 6000, 20000]
    now_us, excess, epoch, active = 0, 1.0, None, {n: 0 for n, _ in classes}
    while now_us < seconds * 1e6:
        now_us += TICK_US + r.randint(-900, 900)
        now = now_us / 1e6
        if r.random() < 0.002:
            now_us += r.randint(200000, 900000)
        if epoch is None or now > epoch:
            epoch = now + r.expovariate(1 / 9.0)
            demand = {n: (r.choice([0, 3, CAPS[n]]) if now > warmup else 0) for n, _ in classes}
            excess = r.choice([1, 1, 1, 1, 6, 40]) if now > warmup else 1
            queueing = now > warmup and r.random() < 0.1
            stalled = now > warmup and r.random() < 0.05
            strange = r.random() < 0.15
        use, load = {}, 0.0
        for shed in trace.breaker.cl:
            n, limit = shed.name, (0 if shed.g == 0 else shed.limits()[0])
            room = min(demand[n], limit)
            active[n] = room if not stuck[n] or room > active[n] else \
                max(room, active[n] - (r.random() < 0.1) - trace.cancels.get(n, 0))
            share = active[n] / CAPS[n]
            load += guilt[n] * share * 8
            still = active[n] if stuck[n] else 0
            rate_now = 0 if stuck[n] else int(share * 9e7 * min(1, max(shed.g, 0.01)))
            use[n] = (active[n], still, int(demand[n] > limit), rate_now)
        slow = (1 + load) * excess * r.lognormvariate(0, 0.1)
        observed = []
        for _ in range(sum(r.random() < rate / 1000 for _ in range(100))):
            fp = min(4, int(r.expovariate(1.2))) + (6 if strange and r.random() < 0.1 else 0)
            us = min(norms[min(fp % 6, 4)] * slow * r.lognormvariate(0, 0.4), now_us / 2)
            observed.append((fp, us, r.randint(0, 99999)))
        inflight = [(r.randrange(5), r.randint(1000, 3000000)) for _ in range(r.randint(0, 3))
                    if slow > 20]
        waits = r.randint(0, 4000) + (r.randint(10000, 90000) if queueing else 0)
        empty = not queueing and r.random() < 0.9
        trace.tick(now_us, observed, waits if observed else None, empty,
                   waits if queueing or r.random() < 0.3 else 0, inflight, use, stalled)
    return trace.close()


class Recorder:
    """Stands in the simulator between the world and its estimator, and passes everything on."""

    def __init__(self, world, keep):
        self.world, self.keep, self.ticks, self.seen, self.wait = world, keep, [], [], None
        est, brk = world.est, world.br
        self.obs, self.obs_wait, self.pressure = est.obs, est.obs_wait, est.pressure
        est.obs, est.obs_wait, est.pressure = self.on_obs, self.on_wait, self.on_pressure
        self.real_use = brk.h["use"]

    def on_obs(self, fp, disp_t, lat_s):
        self.seen.append((fp, lat_s * 1e6, self.world.sim.t))
        self.obs(fp, disp_t, lat_s)

    def on_wait(self, wait):
        self.wait = wait if self.wait is None else min(wait, self.wait)
        self.obs_wait(wait)

    def on_pressure(self, now, overdue, head_wait):
        w = self.world
        if self.keep(now):
            use = {}
            for shed in w.sheds:
                active, rate, nonstreaming = self.real_use(shed.name)
                queued = sum(b.cls == shed.name for b in w.qb)
                use[shed.name] = (active, nonstreaming, min(queued, 1), int(rate * 1e6))
            inflight = [(st.fp, (now - st.t0) * 1e6) for st in w.ostm]
            observed = [(fp, us, max(0.0, (now - t) * 1e6)) for fp, us, t in self.seen]
            self.ticks.append((now, observed, self.wait, not w.q, head_wait, inflight, use,
                               not w.db.up))
        self.seen, self.wait = [], None
        return self.pressure(now, overdue, head_wait)


def scenario_trace(core, sim, path, name, seed, rate, calm_s, event_s):
    """Records a scenario's calm start and its event, and plays the recording through a fresh model:
    what lies between the two is cut out of time."""
    scenario, _, _ = sim.SC[name]
    start = SCENARIOS[name]
    box = []

    def prepared(world):
        scenario(world)
        if rate and name != "S11":
            world.rate = lambda t: rate
        box.append(Recorder(world, lambda t: t < calm_s or start <= t < start + event_s))

    cfg = dict(warmup=calm_s - 2.0, t50=3.0, t90=4.5)
    sim.World("pgweir", prepared, seed, start + event_s, cfg).go()
    trace = Trace(core, path, [("backup", False), ("bulk", True)], cfg)
    r = random.Random(seed)
    for now, observed, wait, empty, head, inflight, use, stalled in box[0].ticks:
        shift = 0 if now < calm_s else start - calm_s
        now_us = round((now - shift) * 1e6) + r.randint(1, 997)
        trace.tick(now_us, observed, None if wait is None else round(wait * 1e6), empty,
                   math.ceil(head * 1e6), inflight, use, stalled)
    return trace.close()


def load_model(where):
    sys.dont_write_bytecode = True
    sys.path.insert(0, where)
    import core
    import sim
    return core, sim


def find_model():
    top = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    for where in (os.environ.get("SHARED"),
                  os.path.join(top, "..", "shared", "overload_model")):
        if where and os.path.exists(os.path.join(where, "core.py")):
            return where
    return None


def summary(path, log):
    moves = sorted({"%s>%s" % (a[1], a[2]) for a in log if a[1] != a[2]})
    print("%s: %d bytes, %d moves: %s" % (os.path.basename(path), os.path.getsize(path), len(log),
                                          " ".join(moves)), flush=True)


def write_golden(core, sim, folder):
    for name in SCENARIOS:
        path = os.path.join(folder, name.lower() + ".trace")
        event_s = {"S2": 26, "S11": 40}.get(name, 26)
        calm_s = 30.0 if name == "S11" else 8.0
        summary(path, scenario_trace(core, sim, path, name, 21, 30.0, calm_s, event_s))
    for seed, cfg in GOLDEN_SEEDS:
        path = os.path.join(folder, "seed%d.trace" % seed)
        summary(path, random_trace(core, path, seed, 90, cfg))


GOLDEN_SEEDS = [(36, {}), (120, {}), (138, {"cap": 1.25}), (285, {"slo": 0.5})]


def check(core, sim, program, seeds, scenarios):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name in scenarios:
            paths.append(os.path.join(folder, name + ".trace"))
            scenario_trace(core, sim, paths[-1], name, random.randrange(1 << 30), None, 42.0, 60)
        for seed in seeds:
            paths.append(os.path.join(folder, "seed%d.trace" % seed))
            cfg = [{}, {"slo": 0.5}, {"cap": 1.25}, {"t50": 2.0, "t90": 3.0}][seed % 4]
            random_trace(core, paths[-1], seed, 240, cfg)
        print("comparing %d fresh traces of the reference model" % len(paths), flush=True)
        return subprocess.run([program] + paths).returncode


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--check", metavar="T_MODEL")
    args.add_argument("--golden", metavar="FOLDER")
    args.add_argument("--seeds", type=int, default=20)
    args.add_argument("--first", type=int, default=1000)
    args.add_argument("--scenarios", default="S1,S11")
    args = args.parse_args()
    where = find_model()
    if where is None:
        print("SKIP: no reference model ($SHARED, ../shared/overload_model); "
              "the golden traces stand in for it")
        return 0
    core, sim = load_model(where)
    if args.golden:
        write_golden(core, sim, args.golden)
    if args.check:
        return check(core, sim, args.check, range(args.first, args.first + args.seeds),
                     [s for s in args.scenarios.split(",") if s])
    return 0


if __name__ == "__main__":
    sys.exit(main())
