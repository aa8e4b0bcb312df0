"""Workers that die, stand still, and are told to stop."""

import signal
import time
from collections.abc import Callable

from tests.fault import oracle
from tests.fault.deployment import Deployment, every
from tests.fault.judgement import judge
from tests.fault.proxy import Proxy
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]


@row(1, "worker death: `kill -9` every 2 s", short=True)
def test_worker_death(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        deaths: list[tuple[int, float]] = []
        with yard.load() as load:
            for _ in every(2, lambda: load.lasts):
                for victim in yard.catch(load):
                    victim.kill()
                    deaths.append((victim.pid, victim.died or 0))
                    yard.replace(victim)
        history = judge(yard, record, healed=time.time(), load=load)
        recoveries = oracle.recoveries(history, deaths)
        record.note("kills", len(deaths))
        record.note("runs cut off", len(recoveries))
        record.note("slowest recovery, s", max(recoveries, default=0.0))
        assert recoveries, "no worker was running anything when it died"
        assert max(recoveries) <= scale.within(2 * scale.lease)


@row(2, "zombie: SIGSTOP for 3 leases, then CONT", short=True)
def test_zombie(scale: Scale, deployment: Deploy, record: Record) -> None:
    half = scale.workers // 2
    with deployment(workers=half) as yard:
        # Those that are stopped are also deaf for a while: what they have lost they learn from the database alone.
        link = yard.link(Proxy(yard.redis.port))
        deaf = [yard.start_worker(REDIS_URL=f"redis://127.0.0.1:{link.port}/0") for _ in range(scale.workers - half)]
        stops = 0
        with yard.load() as load:
            for _ in every(4 * scale.lease, lambda: load.lasts):
                frozen = yard.catch(load, len(deaf), among=deaf)
                link.cut()
                stops += len(frozen)
                time.sleep(3 * scale.lease)
                for worker in frozen:
                    worker.thaw()
                time.sleep(scale.lease / 3)
                link.heal()
        history = judge(yard, record, healed=time.time(), load=load)
        late = oracle.late_results(history)
        record.note("stops", stops)
        record.note("results that came too late", late)
        assert late, "nothing that was stopped came to its end"
        # A worker that was just waiting for its heartbeat's answer throws its results away by itself.
        assert len(history.thrown_away) >= scale.pick(50, 0)


@row(18, "rolling SIGTERM over all workers and servers", short=True)
def test_rolling_sigterm(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(serves=2) as yard:
        stopped = 0
        with yard.load() as load:
            for _ in every(scale.pick(20, 4), lambda: load.lasts):
                for worker in list(yard.workers):
                    yard.start_worker()
                    yard.workers.remove(worker)
                    assert worker.stop() == 0, worker.tail()
                    stopped += 1
                old = yard.serves[0]
                yard.start_serve()
                yard.drop_serve(old)
                assert old.stop() == 0, old.tail()
        history = judge(yard, record, healed=time.time(), load=load)
        begun = {(run.task_id, run.attempt) for runs in history.runs.values() for run in runs}
        spent = [(claim.task_id, claim.attempt) for claim in history.claims]
        record.note("workers stopped", stopped)
        record.note("attempts spent on what was not begun", len(set(spent) - begun))
        record.note("leases lost", sum(task.lost_count for task in history.tasks.values()))
        assert set(spent) == begun
        assert len(spent) == load.total, "a run was cut off, although it had the time to end"
        assert not any(task.lost_count for task in history.tasks.values())


@row(19, "second signal, and KILL, in the drain")
def test_killed_in_the_drain(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(settings={"TASKYARD_DRAIN_SECONDS": "60"}) as yard:
        deaths: list[tuple[int, float]] = []
        accepted: list[str] = []
        with yard.load() as load:
            for number in every(scale.pick(10, 4), lambda: load.lasts):
                long = {"taskType": "work", "inputData": {"ms": 5 * scale.lease * 1000}, "priority": "URGENT"}
                accepted += yard.submit([long] * scale.workers, f"long-{number}")
                for victim in yard.catch(load, running=accepted):
                    victim.thaw()
                    victim.send_signal(signal.SIGTERM)
                    victim.wait_for("stopping")
                    if number % 2:
                        victim.kill()
                    else:
                        victim.stop()
                    deaths.append((victim.pid, victim.died or 0))
                    yard.replace(victim)
        history = judge(yard, record, healed=time.time(), load=load, accepted=accepted)
        recoveries = oracle.recoveries(history, deaths)
        record.note("workers killed", len(deaths))
        record.note("runs cut off", len(recoveries))
        record.note("slowest recovery, s", max(recoveries, default=0.0))
        assert recoveries, "no worker was running anything when it died"
        assert max(recoveries) <= scale.within(2 * scale.lease)
