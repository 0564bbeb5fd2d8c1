"""How often somebody may come: a bucket for each, which fills steadily and from which every request takes one. Pure."""

from collections import OrderedDict

from core.addresses import network_of


class Buckets:
    """Buckets by name; one that nobody took from for a while is full and need not be remembered."""

    def __init__(self, rate: float, burst: float, most: int = 4096) -> None:
        """Lets `rate` requests a second through for each name, after `burst` at once; remembers `most` names."""
        self._rate = rate
        self._burst = burst
        self._most = most
        # What a bucket held and when, the longest untouched first.
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str, now: float) -> float:
        """Takes one and returns 0, or takes none and returns the seconds after which there will be one."""
        level, then = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= 1.0
        self._levels[name] = (level - 1.0 if allowed else level, now)
        while len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / self._rate


class Gate:
    """Lets requests of hosts through as long as neither the host nor all hosts together come too often."""

    def __init__(self, host_rate: float, total_rate: float, burst_seconds: float = 10.0) -> None:
        """Takes requests a second for one host and for all; at once, what comes to that in `burst_seconds`."""
        self._hosts = Buckets(host_rate, max(1.0, host_rate * burst_seconds))
        self._total = Buckets(total_rate, max(1.0, total_rate * burst_seconds))

    def take(self, address: str, now: float) -> float:
        """Returns 0 when the request from `host:port` may go on, else the seconds after which to come again."""
        return self._hosts.take(network_of(address), now) or self._total.take("", now)
