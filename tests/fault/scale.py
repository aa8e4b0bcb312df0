"""How much of a fault test is run: the whole load, or a short one that every test run can afford."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The load and the deployment under it. Times are seconds, `rate` is tasks a second."""

    name: str
    rate: float
    seconds: float
    workers: int
    slots: int
    lease: float
    beat: float
    #: Tasks that wait while the index is lost, and those that want more memory than there is.
    backlog: int
    #: Tasks of the rows that count tasks, not seconds.
    crowd: int
    #: How long an outage lasts, where the row does not say it.
    outage: float
    #: All are ended so long after the fault.
    heal: float = 60.0
    #: SQL and the index agree so long after the fault.
    agree: float = 35.0

    @property
    def full(self) -> bool:
        return self.name == "full"

    def within(self, seconds: float) -> float:
        """A bound that is promised; the short load is run beside other tests, which take the processor away."""
        return seconds if self.full else seconds + 30

    def pick(self, full: int, short: int) -> int:
        """A number that depends on the scale."""
        return full if self.full else short


#: The load lasts longer than any fault.
FULL = Scale("full", 150, 120, 4, 16, 3.0, 1.0, backlog=100_000, crowd=5_000, outage=10.0)
SHORT = Scale("short", 40, 8, 2, 16, 2.0, 0.5, backlog=3_000, crowd=400, outage=3.0)
