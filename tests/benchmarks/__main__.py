"""All speed comparisons, one after the other: `make bench`. The exit code is 1 if a promise is not kept."""

import sys

from tests.benchmarks import particle, per_seed, reports, speed, stepping

codes = (
    speed.main(list(speed.COMPARISONS)),
    stepping.main(list(stepping.TASKS)),
    per_seed.main(),
    particle.main(list(particle.TASKS)),
    reports.main(),
)
sys.exit(max(codes))
