"""What does a piece of work cost: clocks, memory, disk, and the latency of single rows?"""

import json
import resource
import statistics
import time
from pathlib import Path

WARM_UP = 50
SINGLE_ROWS = 2000


class Clock:
    """Wall and CPU seconds (all threads of this process) of a `with` block."""

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall = time.perf_counter() - self.start[0]
        self.cpu = time.process_time() - self.start[1]


def peak_rss_mb():
    """Largest resident set of this process so far, interpreter and libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def disk_mb(path):
    """Size of all files below `path`, in 10^6 bytes."""
    path = Path(path)
    files = [path] if path.is_file() else (f for f in path.rglob("*") if f.is_file())
    return sum(f.stat().st_size for f in files) / 1e6


def documents_per_second(call, rows):
    """Median throughput of up to five passes of `call()` over `rows` rows; slow programs get fewer passes."""
    walls, cpus = [], []
    while len(walls) < 5 and sum(walls) < 5:
        with Clock() as clock:
            call()
        walls.append(clock.wall)
        cpus.append(clock.cpu)
    return {
        "docs_per_wall_s": rows / statistics.median(walls),
        "docs_per_cpu_s": rows / statistics.median(cpus),
    }


def single_row(call, rows):
    """p50 and p99 of `call(i)`, one row at a time, in milliseconds."""
    for i in range(WARM_UP):
        call(i % rows)
    walls, cpus = [], []
    for i in range(SINGLE_ROWS):
        with Clock() as clock:
            call(i % rows)
        walls.append(1e3 * clock.wall)
        cpus.append(1e3 * clock.cpu)
    wall, cpu = statistics.quantiles(walls, n=100), statistics.quantiles(cpus, n=100)
    return {"wall_p50_ms": wall[49], "wall_p99_ms": wall[98], "cpu_p50_ms": cpu[49], "cpu_p99_ms": cpu[98]}


def report(**figures):
    """Prints the figures as the last line of stdout, where compare.py looks for them."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}), flush=True)
