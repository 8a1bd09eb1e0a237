"""How long a workflow will go on: from how long jobs of the same rules took."""

from collections import Counter
from collections.abc import Iterable, Mapping


class TimeLeft:
    """An estimate that grows better with every job that ends.

    A job is expected to take as long as those of its rule took in this run, or else in the one before it. Where a rule
    has never run, its jobs are left out, and the estimate says "at least".

    Parameters
    ----------
    before : mapping of str to list of float
        Seconds of jobs of earlier runs, by rule.
    n_cores : int
    """

    def __init__(self, before: Mapping[str, list[float]], n_cores: int) -> None:
        self.before = dict(before)
        self.now: dict[str, list[float]] = {}
        self.n_cores = max(n_cores, 1)
        self.waiting: Counter[tuple[str, int]] = Counter()

    def expect(self, rule: str, threads: int) -> None:
        """Count a job that has not ended."""
        self.waiting[rule, threads] += 1

    def finish(self, rule: str, threads: int, seconds: float) -> None:
        """Note how long a job took."""
        self.now.setdefault(rule, []).append(seconds)
        self.waiting[rule, threads] -= 1

    def seconds_of(self, rule: str) -> float | None:
        """Return how long a job of a rule takes, if that is known."""
        seconds = self.now.get(rule) or self.before.get(rule)
        return sum(seconds) / len(seconds) if seconds else None

    def estimate(self, running: Iterable[tuple[str, int, float]]) -> tuple[float, bool]:
        """Return the seconds left, and whether that is all (or jobs are left of which nothing is known).

        Parameters
        ----------
        running : iterable of (rule, threads, seconds)
            Jobs that run, and for how long.
        """
        work, whole = 0.0, True
        for (rule, threads), n_jobs in self.waiting.items():
            seconds = self.seconds_of(rule)
            if seconds is None:
                whole = whole and n_jobs <= 0
            elif n_jobs > 0:
                work += n_jobs * seconds * min(threads, self.n_cores)
        for rule, threads, passed in running:
            seconds = self.seconds_of(rule)
            if seconds is not None:
                work -= min(passed, seconds) * min(threads, self.n_cores)
        return max(work / self.n_cores, 0.0), whole

    def in_words(self, running: Iterable[tuple[str, int, float]]) -> str:
        """Say the estimate."""
        seconds, whole = self.estimate(running)
        if not whole and seconds < 1:
            return "time left not known yet"
        return f"{'about' if whole else 'at least'} {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """Return a time as a person says it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
