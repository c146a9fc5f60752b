"""The long mode: ``python -m tests.fuzz --cases 20000`` runs so many drawn cases and reports."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter, defaultdict

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .compare import difference
from .programs import drawn_program
from .specs import SPECS, common_forms, drawn

PROGRAMS = "programs"  # their share of the cases is a tenth


def cases_of(name: str, count: int, start: int, notes: Counter) -> list[tuple[str, str]]:
    """Run ``count`` cases of a function; the lines that disagree, each with what differs."""
    found, done = [], 0
    draw = drawn_program if name == PROGRAMS else lambda draw: drawn(draw, name)

    @seed(start)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def run(data):
        nonlocal done
        line = draw(data.draw)
        if what := difference(line, stop=name != PROGRAMS, notes=notes):
            found.append((line, what))
        done += 1

    run()
    notes["cases"] += done
    return found


def distinct(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The shortest line of every kind of difference, by its words without the numbers."""
    kinds = defaultdict(list)
    for line, what in found:
        words = what.partition(": ")[2] or what
        kinds[re.sub(r"\S*[\d\[\](){},']\S*|nan|inf", "", words)].append((line, what))
    return [min(lines, key=lambda pair: len(pair[0])) for lines in kinds.values()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other cases")
    parser.add_argument("names", nargs="*", help="functions or families; all of them if none")
    options = parser.parse_args()

    wanted = [n for family, table in SPECS.items() for n in table
              if not options.names or {n, family} & {*options.names}]  # fmt: skip
    absent = [n for n in wanted if not common_forms(n)[0]]
    wanted = [n for n in wanted if n not in absent]
    shares = dict.fromkeys(wanted, -(-options.cases // max(len(wanted), 1)))
    if not options.names or PROGRAMS in options.names:
        shares[PROGRAMS] = -(-options.cases // (10 if wanted else 1))
    notes: Counter = Counter()
    disagreements, started = 0, time.perf_counter()
    for name, count in shares.items():
        before = notes["cases"]
        found = cases_of(name, count, options.seed, notes)
        disagreements += len(found)
        print(f"{name}: {notes['cases'] - before} cases, {len(found)} disagreements", flush=True)
        for line, what in distinct(found):
            print(f"    {line}\n        {what[:400]}", flush=True)
    print(f"\n{notes.pop('cases')} cases of {len(shares)} functions in "
          f"{time.perf_counter() - started:.0f} s: {disagreements} disagreements")  # fmt: skip
    for reason, times in notes.most_common():
        print(f"    {times} × {reason}")
    missing = {n: forms for n in wanted if (forms := common_forms(n)[1])}
    print(f"not in tensorgrad: {', '.join(absent) or 'nothing'}")
    print(
        "forms not in tensorgrad:", ", ".join(f"{n} ({', '.join(f)})" for n, f in missing.items())
    )
    return min(disagreements, 1)


if __name__ == "__main__":
    sys.exit(main())
