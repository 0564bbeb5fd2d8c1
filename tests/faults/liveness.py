"""Who is dead is found out in time, and nobody who lives is taken for dead."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bench import hosts
from bench.hosts import Hosts
from bench.programs import Failed, until
from peer.commands.client import Daemon
from relevo.v1.central_directory_pb2 import PeerListing
from tests.faults import clocks, herd
from tests.faults.network import REACHED, Gate, Network, network
from tests.faults.trials import Trial

# As many as may die at once and be withdrawn at once.
AT_ONCE = 3
PEERS = 20
AWAY = 30.0
# What a peer that is alive has: time to beat, and for its lease to have ended if it were not heard.
SETTLE = 12.0


def _names(count: int) -> list[str]:
    return [f"peer-{number:02}" for number in range(count)]


def _batches(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Yields the names in turn, a few at a time, `rounds` of them in all."""
    turn = 0
    while turn < rounds:
        some = min(AT_ONCE, rounds - turn)
        yield [names[(turn + number) % len(names)] for number in range(some)]
        turn += some


async def _any_moment() -> None:
    """Waits so that what follows comes at any time between two beats."""
    await asyncio.sleep(random.uniform(0, 2))


async def _killed(rounds: int) -> list[float]:
    found = []
    names = _names(min(PEERS, rounds + 3))
    async with network(names) as net:
        for victims in _batches(names, rounds):
            await _any_moment()
            found += await net.withdrawn(victims, partial(net.signal, victims, signal.SIGKILL))
            await net.start_peers(victims)
    return found


async def _frozen(rounds: int) -> list[float]:
    """A machine without power sends nothing, not even that its connections end; a stopped process does neither."""
    found = []
    names = _names(min(PEERS, rounds + 3))
    async with network(names) as net:
        for victims in _batches(names, rounds):
            await _any_moment()
            found += await net.withdrawn(victims, partial(net.signal, victims, signal.SIGSTOP))
            net.signal(victims, signal.SIGCONT)
            await net.until_live(victims)
    return found


async def _link_down(rounds: int) -> list[float]:
    found = []
    with Hosts() as made:
        middle = made.add("middle")
        others = {name: made.add(name) for name in _names(min(AT_ONCE, rounds))}

        def plug(names: Sequence[str], *, connected: bool) -> None:
            for name in names:
                made.plug(others[name], connected=connected)

        async with network(listen=f"{middle.address}:7400", inside=middle.inside) as net:
            for name, host in others.items():
                await net.start_peers([name], inside=host.inside, listen=f"{host.address}:0")
            for victims in _batches(list(others), rounds):
                await _any_moment()
                found += await net.withdrawn(victims, partial(plug, victims, connected=False))
                plug(victims, connected=True)
                await net.until_live(victims)
    return found


async def _stopped(rounds: int) -> list[float]:
    """Each peer is stopped again and again for 1 to 4 s, all at once; a death is a session that ended."""
    names = _names(min(PEERS, rounds))
    async with network(names) as net:
        left = iter(range(rounds))

        async def one(name: str) -> None:
            for _ in left:
                net.signal([name], signal.SIGSTOP)
                await asyncio.sleep(random.uniform(1, 4))
                net.signal([name], signal.SIGCONT)
                await asyncio.sleep(random.uniform(0.2, 2))

        async with _nobody_dies(net) as deaths:
            await asyncio.gather(*map(one, names))
    return _of(deaths, rounds)


@contextlib.asynccontextmanager
async def _nobody_dies(net: Network) -> AsyncIterator[list[str]]:
    """Yields a list that names, once the context is left, whose session has ended meanwhile."""
    before = await net.logins()
    said = len(net.said())
    deaths: list[str] = []
    yield deaths
    await asyncio.sleep(SETTLE)
    await net.until_live(before)
    after = await net.logins()
    deaths += [name for name in before if after[name] != before[name]]
    if not deaths and " fell silent" in net.said()[said:]:
        raise Failed("central says that somebody fell silent", net.central.log)


def _of(deaths: Sequence[str], rounds: int) -> list[float]:
    """Returns a value for each time that somebody could have been taken for dead: 1 for a death, 0 for none."""
    return [1.0] * len(deaths) + [0.0] * max(0, rounds - len(deaths))


async def _central_stopped(rounds: int) -> list[float]:
    names = _names(PEERS)
    found = []
    async with network(names) as net:
        for _ in range(rounds):
            async with _nobody_dies(net) as deaths:
                net.central.process.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(AWAY)
                finally:
                    net.central.process.send_signal(signal.SIGCONT)
            found += _of(deaths, len(names))
    return found


async def _busy(rounds: int) -> list[float]:
    """Twice as many programs as processors compute all the time."""
    names = _names(PEERS)
    found = []
    async with network(names) as net:
        for _ in range(rounds):
            async with _nobody_dies(net) as deaths:
                with _computing(2 * (os.cpu_count() or 1)):
                    await asyncio.sleep(AWAY)
            found += _of(deaths, len(names))
    return found


@contextlib.contextmanager
def _computing(programs: int) -> Iterator[None]:
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for each in burning:
            each.kill()
            each.wait()


# Else whoever does not reach central does so through others, within the grace.
NO_CARRIERS = ("--max-carried", "0")


# Whoever is called from another address than the one that it listens on cannot be dialled, as others see it.
HIDDEN = "127.0.0.2:0"


async def _only_central_cut(rounds: int, listen: str = "127.0.0.1:0") -> list[float]:
    """Peers that do not reach central are kept, marked and listed; then they are killed."""
    found = []
    done = 0
    while done < rounds:
        names = _names(min(AT_ONCE, rounds - done))
        async with network(["helper"], options=NO_CARRIERS) as net, Gate(net.central.address) as gate:
            await net.start_peers(names, via=gate.address, listen=listen)
            if listen == HIDDEN:
                await _attached(net, names)
            await _any_moment()
            before = await net.logins()
            gate.shut()
            if random.random() < 0.5:
                gate.cut()
            await kept(net, names)
            gate.open()
            gate.cut()
            await net.until_live(names)
            if await net.logins() != before:
                raise Failed("somebody who was kept had to log in anew", net.central.log)
            gate.shut()
            await kept(net, names)
            found += await net.withdrawn(names, partial(net.signal, names, signal.SIGKILL))
        done += len(names)
    return found


async def _attached(net: Network, names: Sequence[str]) -> None:
    """Waits until these peers are attached to those two that can be dialled."""

    def attached(name: str) -> bool:
        with Daemon(net.programs.base / name / "home") as daemon:
            return len(daemon.status().relay.attached_to) == 2

    for name in names:
        await asyncio.to_thread(until, f"{name} attached", partial(attached, name), 60)
    await net.until_live(names)


async def kept(net: Network, names: Sequence[str], seconds: float = SETTLE) -> None:
    """Checks that these peers, cut off from central only, are kept for so long, and marked, and their files listed."""

    def marked(listed: Mapping[str, PeerListing]) -> bool:
        if set(names) - set(listed):
            raise Failed(f"withdrawn: {set(names) - set(listed)}", net.central.log)
        return all(listed[name].state == REACHED for name in names)

    await net.until("marked", marked, 20)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if set(names) - set(await net.listed()):
            raise Failed(f"not all of {names} are kept", net.central.log)
        await asyncio.sleep(0.5)
    if not {f"{name}.txt" for name in names} <= await net.paths():
        raise Failed("files of a kept peer are not listed", net.central.log)


async def _clock_jumps(rounds: int) -> list[float]:
    """The clock of one program after the other goes an hour ahead or back, which its monotonic clock does not."""
    names = _names(5)
    found = []
    with clocks.shimmed() as clock:
        async with network(names) as net:
            programs = {"central": net.central, **net.peers}
            for turn in range(rounds):
                name = list(programs)[turn % len(programs)]
                async with _nobody_dies(net) as deaths:
                    clock.set(programs[name].process.pid, random.choice((-3600, 3600)))
                    await asyncio.sleep(2)
                found += _of(deaths, 1)
    return found


async def _two_centrals(rounds: int) -> list[float]:
    """A second central on the same data refuses in one line, and the first goes on."""
    found = []
    async with network() as net:
        command = [sys.executable, "-m", "central", "serve", "--data", str(net.data), "--listen", "127.0.0.1:0"]
        for _ in range(rounds):
            began = time.monotonic()
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
            found.append(time.monotonic() - began)
            if done.returncode != 7 or len(done.stderr.strip().splitlines()) != 1:
                raise Failed(f"the second central ended with {done.returncode}: {done.stderr}")
            await net.until_live(["eye"])
    return found


def _made(work: Callable[[int], Coroutine[Any, Any, list[float]]]) -> Callable[[int], list[float]]:
    return lambda rounds: asyncio.run(work(rounds))


TRIALS = (
    Trial(
        "kill -9 of a peer",
        "Three peers of twenty are killed at once; until each is withdrawn.",
        "s",
        3.5,
        100,
        3,
        _made(_killed),
    ),
    Trial(
        "power-off (SIGSTOP)",
        "Three peers of twenty fall silent at once, and their connections do not end; until each is withdrawn.",
        "s",
        10.5,
        100,
        3,
        _made(_frozen),
    ),
    Trial(
        "link down",
        "The cables of three hosts with a peer each are pulled; until each is withdrawn.",
        "s",
        10.5,
        100,
        3,
        _made(_link_down),
        hosts.missing,
    ),
    Trial(
        "stopped for 1 to 4 s",
        "Twenty peers at once are stopped again and again for 1 to 4 s; sessions that ended.",
        "deaths",
        0,
        1000,
        20,
        _made(_stopped),
    ),
    Trial(
        "central stopped",
        f"Central is stopped for {AWAY:g} s; sessions of its 21 peers that ended.",
        "deaths",
        0,
        3,
        0,
        _made(_central_stopped),
    ),
    Trial(
        "busy processors",
        f"Twice as many programs as processors compute for {AWAY:g} s; sessions of 21 peers that ended.",
        "deaths",
        0,
        3,
        0,
        _made(_busy),
    ),
    Trial(
        "clock jumps by an hour",
        "The time of day of one program goes an hour ahead or back, by a preloaded library; sessions that ended.",
        "deaths",
        0,
        12,
        0,
        _made(_clock_jumps),
        clocks.missing,
    ),
    Trial(
        "only central is cut off",
        "Peers that only central does not reach, and whose calls nobody carries, are kept, marked and listed for 12 s, "
        "live again when it does, cut off again, and then killed; until each is withdrawn.",
        "s",
        10.5,
        12,
        0,
        _made(_only_central_cut),
    ),
    Trial(
        "only central is cut off, hidden",
        "The same with peers that nobody can dial: those that they are attached to prove for them that they live.",
        "s",
        10.5,
        12,
        0,
        _made(partial(_only_central_cut, listen=HIDDEN)),
    ),
    Trial(
        "1,000 peers come back",
        f"A thousand sessions lose central for {AWAY:g} s; from its return until each is live, under the same login.",
        "s",
        10,
        2,
        0,
        _made(herd.come_back),
    ),
    Trial(
        "two centrals on one directory",
        "A second central on the data directory of a running one; until it has refused in one line.",
        "s",
        10,
        5,
        1,
        _made(_two_centrals),
    ),
)
