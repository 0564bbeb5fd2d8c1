"""The work of this daemon that takes time: downloads, uploads and copies for others, while it runs and afterwards."""

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol
from weakref import WeakValueDictionary

from core import errors
from peer.fetching.pieces import Allowance
from peer.fetching.progress import Progress
from peer.fetching.reaching import How
from peer.links.limiter import Limiter
from peer.settings import MAX_DOWNLOADS
from peer.work.turns import Candidate, Priority, chosen
from peer.work.work import Kind, Order, State, Transfer

__all__ = ["Kind", "Order", "State", "Transfer", "Transfers"]

log = logging.getLogger("relevo.transfers")

# Finished transfers that are remembered.
REMEMBERED = 1000
# Downloads that have not ended.
MOST = 10_000
# What may pass: a detached download waits for that. Other errors end it.
_MAY_PASS = (errors.NotFound, errors.Unreachable, errors.Busy, errors.NotPossible)
# Pauses between two tries, in seconds: the first, and the longest; each is twice as long as the one before.
FIRST_REST, LONGEST_REST = 1.0, 60.0
# Tries that bring nothing take at most a tenth of the time.
_RATIO = 9.0
_AS_ASKED = Order()


class Keeper(Protocol):
    """Remembers, over restarts, the transfers that have a request."""

    async def keep(self, transfer: Transfer) -> None:
        """Returns when a transfer will not be forgotten. Raises NotPossible."""

    def ended(self, transfer: Transfer) -> None:
        """Begins to remember that a transfer has ended."""

    async def settled(self) -> None:
        """Returns when what has ended will not be begun again."""


class _Forgetful:
    async def keep(self, transfer: Transfer) -> None:
        pass

    def ended(self, transfer: Transfer) -> None:
        pass

    async def settled(self) -> None:
        pass


class Transfers:
    """Runs transfers and remembers the last ones. Of downloads only so many run at once, the most urgent first.

    Attributes:
        limiter: of all that is fetched.
        at_once: most downloads that run at once.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        *,
        limiter: Limiter | None = None,
        keeper: Keeper | None = None,
        at_once: int = MAX_DOWNLOADS,
    ) -> None:
        """`wall` gives seconds since 1970."""
        self.limiter = limiter or Limiter(lambda: 0.0)
        self.at_once = at_once
        self._wall = wall
        self._keeper = keeper or _Forgetful()
        self._all: dict[str, Transfer] = {}
        self._unfinished: dict[str, Transfer] = {}
        self._groups: WeakValueDictionary[str, Limiter] = WeakValueDictionary()
        self._forgotten_bytes = 0
        self._forgotten_by = Counter[How]()
        self._closing = False

    def start(
        self,
        kind: Kind,
        work: Callable[[Transfer], Awaitable[None]],
        *,
        path: str = "",
        target: str = "",
        size: int = 0,
        content_id: bytes = b"",
        placement_id: str = "",
        order: Order = _AS_ASKED,
        progress: Progress | None = None,
    ) -> Transfer:
        """Starts `work` and returns the transfer, which is waiting until `work` says otherwise.

        `progress` is what the work notes how far it is in, when that is more than a Progress of `size` bytes.
        A download waits for its turn, may be interrupted, and its work is called again then.

        Raises:
            Busy: too many downloads have not ended.
        """
        if kind is Kind.DOWNLOAD and not order.transfer_id and len(self._downloads()) >= MOST:
            raise errors.Busy(f"{MOST} downloads wait already; cancel some, or wait until they are done", LONGEST_REST)
        transfer_id = order.transfer_id or secrets.token_hex(8)
        transfer = Transfer(
            transfer_id=transfer_id,
            kind=kind,
            path=path,
            target=target,
            progress=order.progress or progress or Progress(size),
            start_time=self._wall() if order.start_time is None else order.start_time,
            work=work,
            allowance=Allowance(transfer_id, self.limiter, self._own_limiter(order), order.priority.weight),
            ended=asyncio.get_running_loop().create_future(),
            content_id=content_id,
            placement_id=placement_id,
            request=order.request,
            priority=order.priority,
            detached=order.detached,
            paused=order.paused,
            kept=bool(order.transfer_id),
            state=State.PAUSED if order.paused else State.WAITING,
        )
        self._all[transfer_id] = self._unfinished[transfer_id] = transfer
        self._forget_oldest()
        if kind is Kind.DOWNLOAD:
            self._arrange()
        else:
            self._begin(transfer)
        return transfer

    def remember(self, ended: Transfer) -> None:
        """Adds a transfer that ended before this daemon started."""
        self._all[ended.transfer_id] = ended
        self._forget_oldest()

    async def kept(self, transfer: Transfer) -> None:
        """Returns when a download will not be forgotten, if it is one that can be begun again.

        Raises:
            NotPossible: the home cannot be written to; the download is cancelled.
        """
        try:
            await self._keep(transfer)
        except errors.NotPossible:
            if not transfer.kept:
                await self.cancel(transfer.transfer_id)
            raise

    def get(self, transfer_id: str) -> Transfer:
        """Returns a transfer.

        Raises:
            NotFound: there is none with this id.
        """
        try:
            return self._all[transfer_id]
        except KeyError:
            raise errors.NotFound(f"there is no transfer {transfer_id!r}; `relevo transfers` lists them") from None

    def latest_first(self) -> list[Transfer]:
        """Returns all transfers that are remembered, the latest first."""
        return list(reversed(self._all.values()))

    @property
    def received_bytes(self) -> int:
        """Block bytes that came from other peers since the daemon started."""
        return self._forgotten_bytes + sum(transfer.received_bytes for transfer in self._all.values())

    @property
    def received_by(self) -> Counter[How]:
        """The same by how they came."""
        return sum((transfer.received_by for transfer in self._all.values()), self._forgotten_by)

    def running(self) -> Iterator[Transfer]:
        """Yields the transfers that have not ended."""
        return iter(list(self._unfinished.values()))

    async def cancel(self, transfer_id: str) -> Transfer:
        """Stops a transfer for good and returns it when it has stopped; one that has ended stays as it is.

        Raises:
            NotFound: there is none with this id.
        """
        transfer = self.get(transfer_id)
        if transfer.running:
            transfer.cancelled = True
            await self._interrupt(transfer)
            if transfer.running:
                self._end(transfer, State.CANCELLED)
                self._arrange()
        await self._keeper.settled()
        return transfer

    async def pause(self, transfer_id: str) -> Transfer:
        """Stops a download until it is resumed, and returns it when it has stopped.

        Raises:
            NotFound: there is none with this id.
            NotPossible: it has ended or is no download; or the home cannot be written to.
        """
        transfer = self._download(transfer_id)
        transfer.paused = True
        await self._interrupt(transfer)
        if transfer.paused and transfer.running and not transfer.active:
            transfer.state, transfer.waiting_reason = State.PAUSED, ""
        self._arrange()
        await self._keep(transfer)
        return transfer

    async def resume(self, transfer_id: str) -> Transfer:
        """Lets a paused download go on, and one that rests try at once.

        Raises:
            NotFound: there is none with this id.
            NotPossible: it has ended or is no download; or the home cannot be written to.
        """
        transfer = self._download(transfer_id)
        self._go_on(transfer)
        await self._keep(transfer)
        return transfer

    def join(self, transfer: Transfer, order: Order) -> None:
        """Lets a download that has not ended serve another order for the same: it goes on, as lasting as asked for.

        That survives a restart when it is `kept` afterwards.
        """
        transfer.detached = transfer.detached or order.detached
        self._go_on(transfer)

    def _go_on(self, transfer: Transfer) -> None:
        transfer.paused = False
        transfer.tries = 0
        if transfer.state is State.PAUSED:
            transfer.state = State.WAITING
        self._end_rest(transfer)
        self._arrange()

    async def prioritise(self, transfer_id: str, priority: Priority) -> Transfer:
        """Gives a download another priority.

        Raises:
            NotFound: there is none with this id.
            NotPossible: it has ended or is no download; or the home cannot be written to.
        """
        transfer = self._download(transfer_id)
        transfer.priority = priority
        transfer.allowance.weight = priority.weight
        self._arrange()
        await self._keep(transfer)
        return transfer

    def try_again(self) -> None:
        """Lets every download that rests try at once, as when the network is there again."""
        for transfer in self.running():
            self._end_rest(transfer)
        self._arrange()

    async def close(self) -> None:
        """Stops everything that runs; what was fetched stays on disk, and downloads that are kept go on next time."""
        self._closing = True
        for transfer in self.running():
            self._end_rest(transfer)
        tasks = [transfer.task for transfer in self.running() if transfer.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _download(self, transfer_id: str) -> Transfer:
        transfer = self.get(transfer_id)
        if transfer.kind is not Kind.DOWNLOAD:
            raise errors.NotPossible(f"{transfer_id} is no download; only downloads can be paused, resumed or ranked")
        if not transfer.running:
            raise errors.NotPossible(f"{transfer_id} has ended; it is {transfer.state.value}")
        return transfer

    async def _keep(self, transfer: Transfer) -> None:
        if transfer.request is not None and transfer.running:
            await self._keeper.keep(transfer)
            transfer.kept = True

    def _own_limiter(self, order: Order) -> Limiter:
        limiter = self._groups.get(order.group) or self.limiter.another(order.rate)
        if order.group:
            self._groups[order.group] = limiter
        return limiter

    def _downloads(self) -> list[Transfer]:
        return [transfer for transfer in self._unfinished.values() if transfer.kind is Kind.DOWNLOAD]

    def _arrange(self) -> None:
        """Interrupts and begins downloads, so that those run that are to."""
        if self._closing:
            return
        downloads = self._downloads()
        candidates = (Candidate(one.transfer_id, one.priority, one.active) for one in downloads if one.ready)
        to_run = chosen(candidates, self.at_once)
        active = {one.transfer_id for one in downloads if one.active}
        for transfer in downloads:
            if transfer.active and transfer.transfer_id not in to_run:
                _cancel(transfer)
            elif transfer.ready and not transfer.active:
                transfer.waiting_reason = f"waits for its turn: {len(to_run)} other downloads come first"
        for transfer_id in to_run:  # the place of one that is being interrupted is free when it has stopped
            if transfer_id not in active and len(active) < self.at_once:
                active.add(transfer_id)
                self._begin(self._unfinished[transfer_id])

    def _begin(self, transfer: Transfer) -> None:
        transfer.waiting_reason = ""
        if transfer.task is not None or transfer.progress.done_bytes:  # of an earlier try
            transfer.progress = transfer.progress.again()
        transfer.began = self.limiter.clock()
        transfer.task = asyncio.create_task(self._run(transfer))
        transfer.task.add_done_callback(lambda task: self._stopped(transfer, task))

    async def _run(self, transfer: Transfer) -> None:
        try:
            await transfer.work(transfer)
        except errors.RelevoError as error:
            transfer.error = error
            log.info("%s of %s: %s", transfer.kind.value, transfer.path or transfer.content_id.hex(), error)
        except Exception:
            log.exception("%s of %s failed", transfer.kind.value, transfer.path or transfer.content_id.hex())
            transfer.error = errors.Defect("internal error; the daemon's log has the details")

    async def _interrupt(self, transfer: Transfer) -> None:
        """Returns when a transfer's work has stopped."""
        self._end_rest(transfer)
        if transfer.task is not None and transfer.active:
            _cancel(transfer)
            await asyncio.wait([transfer.task])

    def _stopped(self, transfer: Transfer, task: "asyncio.Task[None]") -> None:
        """Notes how work stopped; not in the task itself, which never begins when it is cancelled at once."""
        if task.cancelled():
            if transfer.cancelled or self._closing or transfer.kind is not Kind.DOWNLOAD:
                self._end(transfer, State.CANCELLED)
            else:
                transfer.state = State.PAUSED if transfer.paused else State.WAITING
        elif transfer.error is None:
            self._end(transfer, State.DONE)
        elif transfer.detached and isinstance(transfer.error, _MAY_PASS) and not transfer.cancelled:
            self._rest(transfer, transfer.error)
        else:
            self._end(transfer, State.FAILED)
        self._arrange()

    def _end(self, transfer: Transfer, state: State) -> None:
        transfer.state, transfer.waiting_reason = state, ""
        transfer.end_time = self._wall()
        del self._unfinished[transfer.transfer_id]
        transfer.ended.set_result(None)
        if transfer.request is not None and not self._closing:
            self._keeper.ended(transfer)

    def _rest(self, transfer: Transfer, error: errors.RelevoError) -> None:
        """Lets a detached download try again later, after a pause that grows as long as nothing comes."""
        if transfer.received_bytes > transfer.came:
            transfer.came, transfer.tries = transfer.received_bytes, 0
        transfer.error = None
        transfer.state = State.PAUSED if transfer.paused else State.WAITING
        transfer.waiting_reason = "" if transfer.paused else str(error)
        if transfer.paused or self._closing:
            return
        pause = min(FIRST_REST * 2.0 ** min(transfer.tries, 16), LONGEST_REST)
        if transfer.tries:  # a try may read a terabyte again to find that one file is still missing
            pause = max(pause, _RATIO * (self.limiter.clock() - transfer.began))
        transfer.tries += 1
        pause *= random.uniform(0.75, 1.0)  # noqa: S311 - so that not all come back at once
        transfer.rest = asyncio.get_running_loop().call_later(pause, self._rested, transfer)

    def _rested(self, transfer: Transfer) -> None:
        transfer.rest = None
        self._arrange()

    def _end_rest(self, transfer: Transfer) -> None:
        if transfer.rest is not None:
            transfer.rest.cancel()
            transfer.rest = None

    def _forget_oldest(self) -> None:
        if len(self._all) <= REMEMBERED:
            return
        for transfer in list(self._all.values()):
            if not transfer.running:
                self._forgotten_bytes += transfer.received_bytes
                self._forgotten_by += transfer.received_by
                del self._all[transfer.transfer_id]
                return


def _cancel(transfer: Transfer) -> None:
    if transfer.task is not None:
        transfer.task.cancel()
