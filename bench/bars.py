"""What must hold: each bar looks at the arms of a scenario and says (what, holds, figures).

A bar is made by a function with its limits and called with {arm: Result}; it yields nothing where
the arms it compares were not run. Limits are those the protection is meant to keep, not what this
machine happens to reach.
"""
import lab

JUDGED = {"weir": 3.0, "strict": 2.0}  # arm: how many times calm's p99 its users may see
PLAIN_SERVED, PLAIN_P99 = 0.99, 5.0    # an outage is plain when fewer are served, or p99 is so many
                                       # times that of calm
BULK_MB_S_MIN = 1.0
CANCELLED = "57014"


def judged(results):
    return [(arm, results[arm]) for arm in JUDGED if arm in results]


def served_share(result, *spans):
    offered = sum(result.spans[s]["offered"] for s in spans)
    return sum(result.spans[s]["served"] for s in spans) / offered if offered else 0.0


# ---- users ----------------------------------------------------------------------------------


def plain_outage(*arms):
    def bar(results):
        for arm in arms:
            if arm not in results:
                continue
            r = results[arm]
            calm, storm = r.spans["calm"]["p99_ms"], r.spans["storm"]["p99_ms"]
            share = served_share(r, "onset", "storm")
            yield (f"{arm}: the outage is plain",
                   share < PLAIN_SERVED or storm >= PLAIN_P99 * max(calm, 1.0),
                   f"served {100 * share:.2f} %, p99 {calm:.1f} -> {storm:.1f} ms")
    return bar


def served(least=0.999):
    def bar(results):
        for arm, r in judged(results):
            share = served_share(r, "onset", "storm")
            yield f"{arm}: {100 * least:g} % of the users served", share >= least, \
                f"{100 * share:.3f} %"
    return bar


def users_calm():
    def bar(results):
        for arm, r in judged(results):
            calm, storm = r.spans["calm"]["p99_ms"], r.spans["storm"]["p99_ms"]
            from_s = r.spans["storm"]["from_s"] - r.spans["calm"]["to_s"]
            yield (f"{arm}: from {from_s:g} s on p99 at most {JUDGED[arm]:g} times calm's",
                   storm <= JUDGED[arm] * max(calm, 1.0),
                   f"x{storm / max(calm, 1.0):.1f} ({calm:.1f} -> {storm:.1f} ms)")
    return bar


def bins(result):
    """(second, answers a second) of each bin of the users' clock."""
    rows = result.rows
    width = float(rows[1]["t"]) - float(rows[0]["t"])
    return width, [(float(row["t"]), int(row["served"]) / width) for row in rows]


def back_s(result, from_s, share=0.9):
    """(the first rate, seconds until a whole second is at that share of it, or None)."""
    width, rates = bins(result)
    calm = [rate for at_s, rate in rates if 1 <= at_s < result.seconds["calm"]]
    first = sum(calm) / max(1, len(calm))
    window = max(1, round(1 / width))
    for i, (at_s, _) in enumerate(rates[:len(rates) - window + 1]):
        mean = sum(rate for _, rate in rates[i:i + window]) / window
        if at_s >= from_s - width and mean >= share * first:
            return first, max(0.0, at_s - from_s)
    return first, None


def recovers_within(limit_s):
    def bar(results):
        for arm, r in results.items():
            healthy_s = r.told.get("healthy_at_s")
            first, back = (0, None) if healthy_s is None else back_s(r, healthy_s)
            last = [rate for _, rate in bins(r)[1]][-int(2 / bins(r)[0]):]
            end = sum(last) / len(last)
            figures = f"{'never' if back is None else f'{back:.2f} s'}; {first:.0f}/s before, " \
                f"{end:.0f}/s at the end"
            if arm in JUDGED:
                yield (f"{arm}: 90 % of the first rate within {limit_s:g} s of health",
                       back is not None and back <= limit_s and end >= 0.9 * first, figures)
            else:
                yield f"{arm}: back, for comparison", None, figures
    return bar


def users_back_within(limit_s):
    def bar(results):
        for arm, r in judged(results):
            at_s = r.told.get("altering_at_s", 0.0)
            back = back_s(r, at_s + 1)[1]
            yield (f"{arm}: users are served again {limit_s:g} s after the ALTER TABLE",
                   back is not None and back + 1 <= limit_s,
                   "never" if back is None else f"{back + 1:.1f} s")
    return bar


def altered_within(limit_s):
    def bar(results):
        for arm, r in judged(results):
            took = r.told.get("altered_s")
            yield (f"{arm}: the ALTER TABLE is through within {limit_s:g} s",
                   took is not None and took <= limit_s,
                   "not at all" if took is None else f"{took:.1f} s")
    return bar


def loses_what_physics_demands(arm, extra):
    def bar(results):
        for name, r in results.items():
            onset, storm = r.spans["onset"], r.spans["storm"]
            offered = onset["offered"] + storm["offered"]
            seconds = storm["to_s"] - onset["from_s"]
            floor = max(0.0, 1 - r.capacity * seconds / max(1, offered))
            lost = 1 - served_share(r, "onset", "storm")
            figures = f"{100 * lost:.1f} % where {100 * floor:.1f} % cannot be served; " \
                f"{100 * served_share(r, 'after'):.1f} % served after it"
            if name == arm:
                yield (f"{name}: loses at most {100 * extra:g} % more than physics demands",
                       lost <= floor + extra, figures)
            else:
                yield f"{name}: loses, for comparison", None, figures
    return bar


# ---- bulk -----------------------------------------------------------------------------------


def bulk_moves():
    def bar(results):
        for arm, r in judged(results):
            rates = r.bulk_mb_s()
            mean = sum(rates) / len(rates)
            yield f"{arm}: bulk goes on, {BULK_MB_S_MIN:g} MB/s", mean >= BULK_MB_S_MIN, \
                f"{mean:.1f} MB/s"
    return bar


def bulk_moves_as(rival):
    def bar(results):
        if rival not in results:
            return
        theirs = sum(results[rival].bulk_mb_s())
        for arm, r in judged(results):
            ours = sum(r.bulk_mb_s())
            yield f"{arm}: bulk moves at least what it does behind {rival}", ours >= theirs, \
                f"{ours:.0f} MB beside {theirs:.0f} MB"
    return bar


def bulk_beside(other, share):
    """What is lost to noise between two runs is the rest; what pgweir withholds is exact."""
    def bar(results):
        if other not in results:
            return
        theirs = lab.median(results[other].bulk_mb_s())
        for arm, r in judged(results):
            ours = lab.median(r.bulk_mb_s())
            yield f"{arm}: bulk is as fast as in {other} (x{share:g}, noise)", \
                ours >= share * theirs, f"{ours:.1f} beside {theirs:.1f} MB/s"
    return bar


def bulk_answers():
    def bar(results):
        for arm, r in results.items():
            done, errors = r.told.get("done", 0), r.errors
            figures = f"{done} reports done; errors {errors or 'none'}"
            yield f"{arm}: reports go on", done > 0 if arm in JUDGED else None, figures
    return bar


def full_speed_within(limit_s, share=0.8):
    """The lone reader after the storm, beside the same reader with the protection off."""
    def bar(results):
        if "off" not in results:
            return
        full = lab.median(results["off"].bulk_mb_s("after"))
        for arm, r in judged(results):
            rates = r.bulk_mb_s("after")
            windows = [sum(rates[i:i + 3]) / 3 for i in range(max(0, len(rates) - 2))]
            at_s = next((i for i, mb in enumerate(windows) if mb >= share * full), None)
            yield (f"{arm}: bulk at full speed (x{share:g}) within {limit_s:g} s of the end",
                   at_s is not None and at_s <= limit_s,
                   f"{'never' if at_s is None else f'{at_s} s'}; full is {full:.1f} MB/s")
    return bar


def dump_restores():
    def bar(results):
        for arm, r in judged(results):
            verdict, took = r.told.get("restored", "not staged"), r.told.get("kept_s")
            yield f"{arm}: a pg_dump -j 4 under the storm finishes and restores equal", \
                verdict == "equal", f"{verdict}, dumped in {took or 0:.1f} s"
    return bar


# ---- the breaker ----------------------------------------------------------------------------


def acts_within(limit_s):
    """Or has no need to: where classes alone, by their caps, keep users well."""
    def bar(results):
        for arm, r in judged(results):
            at_s = r.first_action_s()
            onset = r.spans["onset"]["p99_ms"] / max(r.spans["calm"]["p99_ms"], 1.0)
            no_need = at_s is None and onset <= JUDGED[arm]
            yield f"{arm}: first action within {limit_s:g} s", \
                no_need or (at_s is not None and at_s <= limit_s), \
                f"none; p99 meanwhile x{onset:.1f}" if at_s is None else f"{at_s:.2f} s"
    return bar


def blame(result):
    tests, confirmed, exonerated = (int(result.counted.get(name) or 0)
                                    for name in ("tests", "confirmed", "exonerated"))
    why = next((w for _, _, _, w in reversed(result.transitions)), "no transition")
    if not result.counted:
        why = "the console did not answer"
    return tests, confirmed, exonerated, f"{tests} tests, {confirmed} confirmed, {exonerated} " \
        f"exonerated; \"{why}\""


def not_cancelled():
    def bar(results):
        for arm, r in judged(results):
            n, dumps = r.errors.get(CANCELLED, 0), r.told.get("dumps_failed", 0)
            yield f"{arm}: no bulk statement is cancelled", n == 0 and dumps == 0, \
                f"{n} cancelled, {dumps} dumps failed"
    return bar


def nobody_blamed():
    def bar(results):
        yield from not_cancelled()(results)
        for arm, r in judged(results):
            _, confirmed, _, figures = blame(r)
            yield f"{arm}: nobody is blamed", confirmed == 0 and bool(r.counted), figures
    return bar


def withheld(limit):
    """How much of its level the breaker kept from the class it limited most, over the trouble."""
    def bar(results):
        for arm, r in judged(results):
            begin, end = r.span_s("trouble")
            looks = [classes for at_s, classes in r.looks if begin <= at_s < end]
            levels = {}
            for classes in looks:
                for name, row in classes.items():
                    levels.setdefault(name, []).append(1 - float(row["g"]))
            worst = max((sum(v) / len(v) for v in levels.values()), default=0.0)
            yield f"{arm}: bulk loses at most {100 * limit:g} % to the breaker", \
                worst <= limit and bool(looks), f"{100 * worst:.1f} %"
    return bar


def given_back():
    def bar(results):
        for arm, r in judged(results):
            last = r.looks[-1][1] if r.looks else {}
            level = min((float(row["g"]) for row in last.values()), default=0.0)
            yield f"{arm}: at least half is given back at the end", level >= 0.5, \
                f"level {level:.2f}; {blame(r)[3]}"
    return bar


def no_limit_cycle():
    """Cuts in the last two thirds of the trouble: when it should have found the level."""
    def bar(results):
        for arm, r in judged(results):
            begin, end = r.span_s("trouble")
            from_s = begin + (end - begin) / 3
            # Classes that are cut at the same moment are one cut.
            cuts = {at_s for at_s, a, b, _ in r.transitions
                    if a == b == "throttled" and from_s <= at_s < end}
            yield f"{arm}: no limit cycle: at most one cut once it has settled", \
                len(cuts) <= 1 and bool(r.looks), f"{len(cuts)} cuts"
    return bar


# ---- always ---------------------------------------------------------------------------------


def in_order(results):
    for arm, r in results.items():
        if arm in JUDGED or arm in ("off", "observe"):
            yield f"{arm}: pgweir ended in order", r.exit_status == 0, \
                f"exit status {r.exit_status}"


def works(scenario):
    """For QUICK: everybody was there and did something."""
    def bar(results):
        for arm, r in results.items():
            trouble = r.told.get("visitor")
            n = r.spans["whole"]["served"] if r.spans else sum(r.bulk_mb_s())
            yield f"{arm}: {scenario.name} can be staged", n > 0 and not trouble, \
                trouble or f"{n:.0f} {'served' if r.spans else 'MB'}"
    return bar
