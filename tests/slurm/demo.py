"""A real SLURM cluster on this machine for a moment: a sweep is submitted, watched and reported.

make slurm-demo           or: .venv/bin/python -m tests.slurm.demo [SWEEP]
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster, missing


def main(sweep: str) -> int:
    """The exit code is that of `ascent status`: 0 when all is done."""
    if program := missing():
        where = "Debian's packages slurmctld, slurmd, slurm-client and munge have it"
        print(f"error: there is no {program}; {where}", file=sys.stderr)
        return 2
    runs, page = Path("out/slurm-demo/runs"), Path("out/slurm-demo/report")
    cores = len(os.sched_getaffinity(0))
    with Cluster(nodes=2, cpus=max(2, cores // 2)) as cluster:

        def call(*words: object) -> int:
            print("$", *words, flush=True)
            return subprocess.run(list(map(str, words)), env=cluster.environment()).returncode

        ascent = (sys.executable, "-m", "ascent")
        call("sinfo")
        code = call(
            *ascent, "submit", sweep, "--runs", runs, "--out", page, "--pack", 10, "--time", "00:30:00"
        )
        if code == 0:
            code = call(*ascent, "status", sweep, "--runs", runs, "--watch")
    print(page / "index.html")
    return code


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["demo"])))
