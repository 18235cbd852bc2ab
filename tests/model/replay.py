#!/usr/bin/env python3
"""Plays what a log says of a latency breaker through the reference model.

    replay.py LOG ...

With `log_breaker_ticks = 1` every tick of a breaker at work is a line with all it went by:
pressure, samples, and for each class its use. The model gets the same, tick by tick, and must come
to the same state, the same level g of each class, and the same cancels. Where it does not, the tick
is printed, the model is set to what the log says, and the replay goes on; the exit status is then
1.

Without such lines the moves alone are looked at: each says what led to it, and must not contradict
the thresholds of the model.

The model has no jitter, no floors that grow, no early re-test and no modes, cuts a class that moves
next to nothing alone, remembers a level whatever becomes of the load, leaves at the floor what was
held before the culprit and to no effect, takes any fall below 1 for the effect of a test, and lets
a class rise before anything was seen: the log says what these were, and the model is told.
It knows nothing of a fleet (instances > 1), whose logs do not replay. Classes that are neither
paced nor off follow rules the model does not have (they are let in little by little): a log with
such a class is refused, status 2.

The model is looked for as in compare.py.
"""
import argparse
import re
import sys
from fractions import Fraction

from compare import find_model, load_model

STATES = "closed test probation throttled open exonerated".split()
TOLERANCE = 1e-6  # the log has nine digits
PERIOD_MAX = 600.0
MINOR_SHARE = 0.2  # breaker_opts.minor_share
FORGET_SHARE, FORGET_US = 0.5, 3000000  # forget_share, forget_us
PENDING_S = 3  # pending_us
FALL, TRIAL_WEIGHT, BEFORE_S = 0.7, 0.2, Fraction(3, 10)  # fall
RISE_N, RISE_WAIT_S, P_THIN = 30, 5, 0.55  # rise_n, rise_wait_us, p_thin
GAP_US = 1000000
TICK = re.compile(r"breaker_tick upstream=(\S+) (.*)")
MOVE = re.compile(r'breaker upstream=(\S+) at_us=(\d+) from=(\w+) to=(\w+) class=(\S+) '
                  r'why="([^"]*)" (.*)')
BY_HAND = "by hand", "mode of a class on trial", "a class was tripped", "nobody was there"


class Exact(Fraction):
    """Seconds without rounding: 1.5 s after a tick is 1.5 s, whatever the clock says."""

    @staticmethod
    def of(value):
        return Fraction(str(value)) if isinstance(value, float) else Fraction(value)

    def __add__(self, other):
        return Exact(Fraction.__add__(self, self.of(other)))

    def __sub__(self, other):
        return Exact(Fraction.__sub__(self, self.of(other)))

    def __lt__(self, other):
        return Fraction.__lt__(self, self.of(other))

    def __le__(self, other):
        return Fraction.__le__(self, self.of(other))

    def __gt__(self, other):
        return Fraction.__gt__(self, self.of(other))

    def __ge__(self, other):
        return Fraction.__ge__(self, self.of(other))


class Estimator:
    """What the model's breaker wants of an estimator: here the log has done its work."""

    def __init__(self):
        self.last, self.cut, self.testing = [0] * 7, 0, False

    def intervene(self, now, effect):
        pass


class Tick:
    def __init__(self, upstream, text):
        fields = [word.split("=", 1) for word in text.split()]
        one = dict(fields)
        self.upstream, self.at_us, self.state = upstream, int(one["at_us"]), one["state"]
        self.p, self.n = float(one["p"]), int(one["n"])
        self.lagging, self.p_smooth = one["lagging"] == "1", float(one["p_smooth"])
        self.high_ticks = int(one["high_ticks"])
        self.classes = [Class(value) for key, value in fields if key == "class"]


class Class:
    def __init__(self, text):
        (self.name, self.mode, paced, cancelled, trickle, g, g_bad, floor, jitter, active, still,
         queued, cap, rate, cancel) = text.split(",")
        self.paced, self.cancelled, self.trickle = paced == "1", cancelled == "1", float(trickle)
        self.g, self.g_bad, self.floor, self.jitter = map(float, (g, g_bad, floor, jitter))
        self.active, self.still, self.queued, self.cap = map(int, (active, still, queued, cap))
        self.rate, self.cancel = float(rate), int(cancel)


class Load:
    """How much wanted to run when a level hurt: with much less of it, the level is forgotten."""

    def __init__(self):
        self.level, self.hurt, self.light_since = None, 0, None

    def note(self, shed, load, at_us):
        if shed.gbad != self.level:
            self.level, self.hurt, self.light_since = shed.gbad, load, None
        if shed.gbad is None or load >= FORGET_SHARE * self.hurt:
            self.light_since = None
            return
        if self.light_since is None:
            self.light_since = at_us
        if at_us - self.light_since >= FORGET_US:
            shed.gbad, shed.k = None, 0


class Player:
    """The model of one upstream's breaker, led through its log."""

    def __init__(self, core, first):
        self.core, self.est, self.last, self.cancels = core, Estimator(), None, {}
        self.now = first
        self.cfg = dict(core.DEF)
        sheds = [core.Shed(c.name, c.cap, 2 * c.trickle, c.trickle, c.cancelled)
                 for c in first.classes]
        hooks = dict(use=self.use, queued=lambda n: self.found(n).queued > 0, cancel=self.cancel)
        self.moves, self.ticks_n, self.wrong_n = [], 0, 0
        self.loads = [Load() for _ in sheds]
        self.breaker = core.Breaker(self.cfg, sheds, hooks, self.moved)
        self.steady, self.trial, self.unseen = 0, 0, False
        raises = self.breaker.ramp_up
        self.breaker.ramp_up = lambda now, p: None if self.unseen else raises(now, p)

    def found(self, name):
        return next(c for c in self.now.classes if c.name == name)

    def moved(self, now, before, after, why):
        self.moves.append((self.now.at_us, before.lower(), after.lower()))
        if after == "TEST":
            self.trial = 0
            if before != "TEST":
                self.steady = self.breaker.Ps
        if after == "THROTTLED" and ("confirmed P=" in why or "by cancel" in why):
            self.absolve()
        if why.startswith("cut "):
            # Whether the next class is cut too: the model asks for this right after its word.
            minor = self.is_minor(why.split()[1])
            self.cfg["severe"] = 0 if minor else self.core.DEF["severe"]

    def absolve(self):
        """What was held before the culprit, and to no effect."""
        floor = self.cfg["floor"]
        for shed, c in list(zip(self.breaker.cl, self.now.classes))[:self.breaker.k]:
            if c.paced and shed.g in (floor, max(floor, 0.02 * shed.trip_g)):
                shed.g, shed.gbad, shed.k = max(floor, 0.5 * shed.trip_g), None, 0

    def is_minor(self, name):
        """The classes up to this one move next to nothing of what all of them move."""
        rates = [c.rate for c in self.now.classes]
        last = [c.name for c in self.now.classes].index(name)
        return sum(rates[:last + 1]) < MINOR_SHARE * sum(rates)

    def use(self, name):
        """A class that is off is none; one that is observed is one if none can be acted on."""
        c = self.found(name)
        if self.is_passed_over(c):
            return 0, 0.0, 0
        acts = any(o.mode == "enforce" and (o.active or o.rate) for o in self.now.classes)
        if c.mode == "off" or (c.mode == "observe" and acts):
            return 0, 0.0, 0
        return c.active, c.rate, c.still

    def is_passed_over(self, c):
        """Its running work cannot be cancelled, and shields nobody for long."""
        b = self.breaker
        if (b.mode not in ("THROTTLED", "OPEN") or b.hi < self.cfg["retrip_ticks"] or c.cancelled
                or Exact(Fraction(self.now.at_us, 1000000)) - b.t < PENDING_S):
            return False
        shed_i = [shed.name for shed in b.cl].index(c.name)
        return (c.still > 0 and c.active > b.cl[shed_i].limits()[0]
                and any(shed.g > self.cfg["floor"] * 1.01 and any(self.use(shed.name)[:2])
                        for shed in b.cl[shed_i + 1:]))

    def cancel(self, name, n):
        n = min(n, self.found(name).still)
        self.cancels[name] = self.cancels.get(name, 0) + n
        return n

    def prepare(self, tick):
        b, before = self.breaker, self.last
        for shed, c in zip(b.cl, tick.classes):
            shed.lref, shed.trickle, shed.cancel_ok = c.cap, c.trickle, c.cancelled
        for shed, c, load in zip(b.cl, tick.classes, self.loads):
            load.note(shed, c.active + c.queued, tick.at_us)
        if before is None or tick.at_us - before.at_us > GAP_US:
            # Nothing is logged while all is well; what is smoothed began with something.
            b.hi, b.Ps = 0, (tick.p_smooth - 0.1 * tick.p) / 0.9
            b.lo_since = None
            return
        self.cfg["floor"] = max(c.floor for c in before.classes)
        for shed, c in reversed(list(zip(b.cl, before.classes))):
            if shed.g < 1:
                self.jitter(shed, c.jitter)
                break

    def jitter(self, shed, jitter):
        """The one that may rise has a period of its own; the model's ends at 600 s, jitter's at
        720."""
        doublings = 2 ** max(0, shed.k - 1)
        period = min(PERIOD_MAX, self.core.DEF["probe"] * doublings) * (1 + 0.2 * jitter)
        self.cfg["probe"] = period / doublings
        if period > PERIOD_MAX:
            self.riser = shed, shed.g, PERIOD_MAX / period

    def slow_down(self):
        if self.riser is None:
            return
        shed, before, share = self.riser
        if shed.gbad and abs(shed.g - before - 0.30 * shed.gbad / PERIOD_MAX * 0.1) < 1e-12:
            shed.g = before + (shed.g - before) * share

    def judge_fall(self, tick, since_s):
        """Pressure that fell a little fell by itself: the model shall not take it for help."""
        b, c = self.breaker, self.core.DEF
        self.cfg["p_hi"], self.cfg["improve"] = c["p_hi"], c["improve"]
        if b.mode != "TEST" or tick.lagging or since_s < BEFORE_S:
            return
        self.trial += (tick.p - self.trial) * (TRIAL_WEIGHT if self.trial else 1)
        seen = tick.n >= c["min_v"] or since_s >= Exact(Fraction(c["test_slow"]))
        if seen and tick.p >= c["p_lo"] and self.trial > FALL * self.steady:
            self.cfg["p_hi"], self.cfg["improve"] = min(tick.p, c["p_hi"]), float("-inf")

    def play(self, tick):
        b = self.breaker
        self.now, self.cancels, self.riser = tick, {}, None
        self.prepare(tick)
        self.est.last[5] = tick.n
        now = Exact(Fraction(tick.at_us, 1000000))
        if b.mode == "EXONERATED" and tick.p >= 2 * b.pex:
            b.no_test_until = now  # the early re-test
        since_s = now - b.t
        self.unseen = (tick.n < RISE_N and since_s < RISE_WAIT_S
                       or 0 < tick.n < 2 * RISE_N and tick.p >= P_THIN)
        self.judge_fall(tick, since_s)
        b.tick(now, tick.p, self.est, tick.lagging)
        b.hi = b.hi if tick.p >= self.core.DEF["p_hi"] else 0
        self.slow_down()
        for shed, c in zip(b.cl, tick.classes):
            if 0 < shed.g < c.floor:
                shed.g = c.floor  # it has grown
        self.ticks_n += 1
        self.last = tick
        return self.compare(tick, now)

    def compare(self, tick, now):
        b, wrong = self.breaker, []
        if b.mode.lower() != tick.state:
            wrong.append("state is %s, the model says %s" % (tick.state, b.mode.lower()))
        for shed, c in zip(b.cl, tick.classes):
            if abs(shed.g - c.g) > TOLERANCE * max(shed.g, c.g):
                wrong.append("g of %s is %g, the model says %g" % (c.name, c.g, shed.g))
            if self.cancels.get(c.name, 0) != c.cancel:
                wrong.append("%d cancels of %s, the model says %d" %
                             (c.cancel, c.name, self.cancels.get(c.name, 0)))
        if wrong:
            self.wrong_n += 1
            self.adopt(tick, now)
        return wrong

    def adopt(self, tick, now):
        b = self.breaker
        if b.mode.lower() != tick.state:
            b.mode, b.t = tick.state.upper(), now
        b.hi, b.Ps = tick.high_ticks, tick.p_smooth
        for shed, c in zip(b.cl, tick.classes):
            shed.g, shed.gbad = c.g, c.g_bad or None

    def by_hand(self, to, name):
        """Between two ticks an operator tripped a class, or gave everything back."""
        b = self.breaker
        b.mode, b.t, b.hi = to.upper(), Exact(Fraction(self.now.at_us, 1000000)), 0
        for shed in b.cl:
            if to == "closed":
                shed.g, shed.gbad, shed.k = 1.0, None, 0
            elif shed.name == name:
                shed.gbad, shed.k, shed.g = shed.g, 1, self.cfg["floor"]


def contradictions(core, at_us, before, after, why, rest):
    """What a line of a move itself says against the model's thresholds."""
    fields = dict(word.split("=", 1) for word in rest.split() if "=" in word)
    p, p_before, high = (float(fields[k]) for k in ("p", "p_before", "high_ticks"))
    smooth, c = float(fields["p_smooth"]), core.DEF
    helped = p <= max(1.0, p_before) ** c["improve"] * 1.001
    rules = {
        ("closed", "test"): p >= c["p_hi"] and high >= c["trip_ticks"],
        ("exonerated", "test"): p >= c["p_hi"] and high >= c["trip_ticks"],
        ("test", "test"): p >= c["p_hi"],
        ("test", "probation"): p < c["p_hi"],
        ("test", "exonerated"): not helped or p >= c["p_lo"],
        ("probation", "throttled"): p < c["p_lo"] or high >= c["retrip_ticks"],
        ("probation", "closed"): True,
        ("throttled", "throttled"): high >= c["retrip_ticks"] and (smooth >= 0.999 or p >= 2),
        ("open", "open"): high >= c["retrip_ticks"],
        ("throttled", "open"): p >= c["p_hi"],
        ("open", "throttled"): p < c["p_lo"],
        ("exonerated", "closed"): p < c["p_lo"],
    }
    if any(words in why for words in BY_HAND):
        return []
    if before not in STATES or after not in STATES:
        return ["no such state"]
    return [] if rules.get((before, after), True) else [
        "p=%g p_before=%g p_smooth=%g high_ticks=%g do not lead from %s to %s" %
        (p, p_before, smooth, high, before, after)]


class Log:
    def __init__(self, core):
        self.core, self.players, self.moves, self.wrong_n, self.moves_n = core, {}, {}, 0, 0
        self.hands = {}

    def complain(self, upstream, at_us, wrong):
        for what in wrong:
            print("%s at_us=%d: %s" % (upstream, at_us, what))
        self.wrong_n += bool(wrong)

    def move(self, match):
        upstream, at_us, before, after, name, why, rest = match.groups()
        self.moves_n += 1
        self.moves.setdefault(upstream, []).append((int(at_us), before, after))
        if any(words in why for words in BY_HAND):
            # The line comes with the tick that follows the command; so does the effect.
            self.hands.setdefault(upstream, []).append((after, name))
            self.moves[upstream].pop()
        self.complain(upstream, int(at_us), contradictions(self.core, int(at_us), before, after,
                                                           why, rest))

    def tick(self, match):
        tick = Tick(*match.groups())
        for c in tick.classes:
            if not c.paced and c.mode == "enforce":
                raise SystemExit("class %s is enforced and not paced: the model has no rule for it"
                                 % c.name)
        player = self.players.get(tick.upstream)
        if player is None:
            player = self.players[tick.upstream] = Player(self.core, tick)
        for after, name in self.hands.pop(tick.upstream, []):
            player.by_hand(after, name)
        self.complain(tick.upstream, tick.at_us, player.play(tick))

    def compare_moves(self):
        for upstream, player in self.players.items():
            logged = set(self.moves.get(upstream, []))
            played = set(player.moves)
            for at_us, before, after in sorted(logged ^ played):
                who = "log" if (at_us, before, after) in logged else "model"
                self.complain(upstream, at_us, ["only the %s goes from %s to %s" %
                                                (who, before, after)])


def main():
    args = argparse.ArgumentParser()
    args.add_argument("logs", nargs="+", metavar="LOG")
    args = args.parse_args()
    where = find_model()
    if where is None:
        print("SKIP: no reference model ($SHARED, ../shared/overload_model)")
        return 77
    core, _ = load_model(where)
    log = Log(core)
    for path in args.logs:
        with open(path, errors="replace") as lines:
            for line in lines:
                if match := TICK.search(line):
                    log.tick(match)
                elif match := MOVE.search(line):
                    log.move(match)
    log.compare_moves()
    ticks_n = sum(p.ticks_n for p in log.players.values())
    print("%d moves and %d ticks replayed, %d disagree" % (log.moves_n, ticks_n, log.wrong_n))
    return 1 if log.wrong_n else 0 if log.moves_n + ticks_n else 2


if __name__ == "__main__":
    sys.exit(main())
