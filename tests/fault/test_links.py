"""Links between the processes and their servers that are cut, or slow and unreliable."""

import time
from collections.abc import Callable

from tests.fault.deployment import Deployment, every
from tests.fault.history import query
from tests.fault.judgement import judge
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.runlog import read_runs
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]

LINKS = ("serve-redis", "serve-database", "worker-redis", "worker-database")


@row(14, "partition for 20 s, each link in turn")
def test_partition(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(links=True) as yard:
        accepted: list[str] = []
        cut_at = 0.0
        with yard.load() as load:
            for link in LINKS:
                time.sleep(scale.pick(6, 1))
                if link == "worker-database":
                    # Longer than a lease: they are running when the link is cut, and must be given up.
                    long = {"taskType": "work", "inputData": {"ms": 5000 * scale.lease}, "priority": "URGENT"}
                    accepted += yard.submit([long] * scale.workers, "long")
                    _begun(yard, accepted)
                cut_at = time.time()
                yard.proxies[link].cut()
                time.sleep(scale.pick(20, 5))
                yard.proxies[link].heal()
            healed = time.time()
        judge(yard, record, healed=healed, load=load, accepted=accepted)
        runs = read_runs(yard.run_log)
        cut_off = [run for task_id in accepted for run in runs[task_id] if run.begun < cut_at]
        given_up = [run.ended - cut_at if run.ended and not run.whole else 3600.0 for run in cut_off]
        record.note("runs cut off from the database", len(given_up))
        record.note("the slowest gives up after, s", max(given_up))
        # The last beat before the cut may have renewed the lease; the next one finds that it is over.
        assert max(given_up) <= scale.within(scale.lease + scale.beat)


@row(15, "slow links: 200 ± 100 ms, and a connection reset every second")
def test_slow_links(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(links=True) as yard:
        resets = 0
        with yard.load() as load:
            time.sleep(scale.seconds / 8)
            for link in LINKS:
                yard.proxies[link].slow(0.2, 0.1)
            end = time.monotonic() + scale.pick(30, 4)
            for number in every(1, lambda: time.monotonic() < end):
                resets += yard.proxies[LINKS[number % len(LINKS)]].reset(0.3)
            for link in LINKS:
                yard.proxies[link].heal()
            healed = time.time()
        record.note("connections reset", resets)
        judge(yard, record, healed=healed, load=load)
        assert resets


def _begun(yard: Deployment, ids: list[str]) -> None:
    """Wait until all these are running."""
    deadline = time.monotonic() + 60
    while True:
        ((count,),) = query(
            yard.database_url, "SELECT count(*) FROM tasks WHERE id = ANY($1) AND status = 'PROCESSING'", ids
        )
        if count == len(ids):
            return
        assert time.monotonic() < deadline, "they do not begin"
        time.sleep(0.1)
