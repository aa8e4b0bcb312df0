"""PostgreSQL cuts sessions, crashes, and its answers are lost."""

import time
from collections.abc import Callable

from tests.fault.deployment import Deployment, every
from tests.fault.history import query
from tests.fault.judgement import judge
from tests.fault.record import Record
from tests.fault.rows import row
from tests.fault.scale import Scale

Deploy = Callable[..., Deployment]

CUT_ONE = """SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
  WHERE datname = 'postgres' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  ORDER BY random() LIMIT 1) AS chosen"""
#: The message that ends an answer of PostgreSQL, but for its last byte: it is ready for the next query.
READY = b"Z\x00\x00\x00\x05"


@row(11, "database sessions cut: `pg_terminate_backend` 5 times a second", short=True)
def test_database_sessions_cut(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        cut = 0
        with yard.load() as load:
            for _ in every(0.2, lambda: load.lasts):
                ((count,),) = query(yard.database_url, CUT_ONE)
                cut += count
        judge(yard, record, healed=time.time(), load=load)
        record.note("sessions cut", cut)
        assert cut >= scale.seconds


@row(12, "database crash: immediate stop, and start")
def test_database_crash(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment() as yard:
        starts: list[float] = []
        with yard.load() as load:
            for _ in every(scale.pick(30, 5), lambda: load.lasts):
                time.sleep(scale.pick(10, 1))
                yard.postgres.crash()
                time.sleep(2)
                yard.postgres.start()
                starts.append(time.time())
        history = judge(yard, record, healed=starts[-1], load=load)
        claims = [claim.at.timestamp() for claim in history.claims]
        resumed = [min((at for at in claims if at > start), default=start + 3600) - start for start in starts]
        record.note("crashes", len(starts))
        record.note("workers resume after, s", max(resumed))
        assert max(resumed) <= scale.within(10)


@row(13, "reply lost after the commit: of PostgreSQL, and of the server", short=True)
def test_reply_lost_after_the_commit(scale: Scale, deployment: Deploy, record: Record) -> None:
    with deployment(links=True) as yard:
        robberies = (
            ("serve-database", b"load-key-", _is_ready),
            ("http", b"createAITask", bool),
            ("worker-database", b'"status":"COMPLETED"', _is_ready),
        )
        with yard.load() as load:
            for number in every(0.3, lambda: load.lasts):
                link, request, whole = robberies[number % len(robberies)]
                yard.proxies[link].swallow(request, whole)
        lost = {link: yard.proxies[link].swallowed for link, _, _ in robberies}
        record.note("replies lost", ", ".join(f"{link} {count}" for link, count in lost.items()))
        judge(yard, record, healed=time.time(), load=load)
        assert all(lost.values()), lost


def _is_ready(reply: bytes) -> bool:
    return reply[-len(READY) - 1 : -1] == READY
