"""Redis is killed, emptied, put back to an old state, stopped and filled to the brim."""

import signal
import time
from collections.abc import Callable, Sequence

from redis import Redis
from redis.exceptions import RedisError
from tests.fault import oracle
from tests.fault.deployment import Deployment, every
from tests.fault.index import agreed, rebuilt
from tests.fault.judgement import judge
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]

#: Seconds until a process has found out that Redis does not answer: what it accepts meanwhile waits for that, once.
FOUND_OUT = 5.0
#: Claims that a worker may make while another one's is under way, with the short load.
CLAIMS_MEANWHILE = 4
WAITING = {"taskType": "waiting", "inputData": {}}


def resting(yard: Deployment, count: int, key: str = "resting") -> Sequence[str]:
    """Tasks that stay in line, because no worker runs their type: the index must know them at the end."""
    return yard.submit([WAITING] * count, key)


@row(6, "Redis killed without a file on disk, and started again", short=True)
def test_redis_killed(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        accepted = resting(yard, scale.pick(1000, 200))
        agreements: list[float] = []
        with yard.load() as load:
            for _ in every(scale.pick(20, 5), lambda: load.lasts):
                yard.redis.kill()
                time.sleep(scale.pick(5, 1))
                yard.redis.start()
                agreements.append(agreed(yard, time.time(), accepted))
        judge(yard, record, healed=time.time(), load=load, accepted=accepted)
        agreed(yard, time.time())
        record.note("kills", len(agreements))
        record.note("SQL and the index agree after, s", max(agreements))
        assert max(agreements) <= scale.within(scale.agree)


@row(7, "FLUSHALL five times with 100,000 tasks queued", short=True)
def test_flushall(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(workers=0) as yard:
        accepted = resting(yard, 100)
        order = {"taskType": "work", "inputData": {"ms": 1}}
        priorities = ("LOW", "NORMAL", "HIGH")
        orders = [order | {"priority": priorities[number % 3]} for number in range(scale.backlog)]
        accepted = [*accepted, *yard.submit(orders, "backlog")]
        for _ in range(scale.workers):
            yard.start_worker()
        redis = Redis.from_url(yard.redis.url)
        slowest = 0.0
        for _ in range(5):
            time.sleep(scale.pick(3, 1))
            redis.flushall()
            slowest = max(slowest, rebuilt(yard))
        redis.close()
        healed = time.time()
        record.note("slowest rebuild, s", slowest)
        history = judge(yard, record, healed=healed, accepted=accepted, patience=scale.pick(600, 60))
        agreed(yard, time.time())
        overtaken = oracle.most_overtaken(history, {"work"})
        record.note("most overtaken by claims under way", overtaken)
        assert slowest <= scale.within(30)
        # Beside other tests a claim waits longer for its commit, and the other workers make a few meanwhile. An index
        # that was filled in a wrong order would let thousands go first.
        assert overtaken <= scale.pick(1, CLAIMS_MEANWHILE) * scale.workers * scale.slots


@row(8, "stale replica: an old RDB is restored")
def test_stale_replica(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        old = resting(yard, scale.pick(1000, 100), "old")
        with yard.load() as load:
            time.sleep(scale.seconds / 4)
            with Redis.from_url(yard.redis.url) as redis:
                redis.save()
            yard.cancel(old[: len(old) // 2])
            accepted = [*old[len(old) // 2 :], *resting(yard, scale.pick(1000, 100), "new")]
            time.sleep(scale.seconds / 4)
            # It writes no file but when it is told to: it comes back as it was then.
            yard.redis.kill()
            yard.redis.start()
            healed = time.time()
            took = agreed(yard, healed, {*old, *accepted})
        judge(yard, record, healed=healed, load=load, accepted=accepted, failed=old[: len(old) // 2])
        agreed(yard, time.time())
        record.note("SQL and the index agree after, s", took)
        assert took <= scale.within(scale.agree)


@row(9, "Redis stalls for 10 s: CLIENT PAUSE, then SIGSTOP")
def test_redis_stalls(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        accepted = resting(yard, 200)
        stalls: list[tuple[float, float]] = []
        with yard.load() as load:
            for number in range(2):
                time.sleep(scale.seconds / 8)
                began = time.time()
                if number == 0:
                    with Redis.from_url(yard.redis.url) as redis:
                        redis.client_pause(int(scale.outage * 1000))
                    time.sleep(scale.outage)
                else:
                    yard.redis.send_signal(signal.SIGSTOP)
                    time.sleep(scale.outage)
                    yard.redis.send_signal(signal.SIGCONT)
                stalls.append((began, time.time()))
            healed = time.time()
            took = agreed(yard, healed, accepted)
        judge(yard, record, healed=healed, load=load, accepted=accepted)
        agreed(yard, time.time())
        held_up = [one for one in load.acknowledged if any(begin <= one.sent <= end for begin, end in stalls)]
        slowest = max(one.at - one.sent for one in held_up)
        record.note("submitted in the stalls", len(held_up))
        record.note("slowest to be accepted of these, s", slowest)
        record.note("SQL and the index agree after, s", took)
        assert took <= scale.within(scale.agree)
        assert len(held_up) >= scale.rate * scale.outage
        assert max(one.tries for one in held_up) == 1, "submissions were refused"
        assert slowest <= scale.within(FOUND_OUT)


@row(10, "Redis out of memory: 2 MB for 50,000 tasks")
def test_redis_out_of_memory(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard, Redis.from_url(yard.redis.url) as redis:
        redis.config_set("maxmemory", "2mb")
        with yard.load() as load:
            accepted = resting(yard, scale.pick(50_000, 10_000))
            refused = _refuses(redis)
            redis.config_set("maxmemory", "0")
            healed = time.time()
            took = agreed(yard, healed, accepted)
        judge(yard, record, healed=healed, load=load, accepted=accepted)
        agreed(yard, time.time())
        record.note("tasks in line", len(accepted))
        record.note("SQL and the index agree after, s", took)
        assert took <= scale.within(scale.agree)
        assert refused, "the memory was enough"


def _refuses(redis: Redis) -> bool:
    try:
        redis.set("fault-probe", "x", ex=1)
    except RedisError:
        return True
    return False
