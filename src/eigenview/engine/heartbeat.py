"""Each process of a run shows the others that it is alive, so that none waits without end for one that is not.

A collective waits up to half an hour for a process that does not answer, and cannot say which one that is. So each
process has a number in the store of the process group, which a thread counts up. The first process watches the numbers
of all others, and the others watch the first. A step that takes long is no silence: a process stops counting only if
it was stopped, was ended without closing its connections, or if its machine is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from eigenview.distributed import StoreConnection

EVERY = 2.0
"""Seconds between two signs of life."""
PATIENCE = 10
"""Looks without a new sign of life after which a process counts as lost. Looks, not seconds: a machine that was
suspended as a whole goes on."""
END = "end"
"""What a process leaves in place of its number when it has left the run properly."""


@contextmanager
def beating(address: str, port: int, number: int, size: int, end: Callable[[str], None]) -> Iterator[None]:
    """In this block this process shows that it is alive, and watches the others.

    `end` is called with a sentence, from another thread, once a process is silent for about EVERY * PATIENCE seconds.
    """
    done = threading.Event()
    watched = range(1, size) if number == 0 else (0,)
    thread = threading.Thread(target=_beat, args=(address, port, number, size, watched, end, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(EVERY)


def silent_for(who: int, size: int) -> str:
    """The message about a process without a sign of life."""
    return (
        f"process {who} of {size} has not answered for {EVERY * PATIENCE:.0f} s (it was stopped, or its machine is "
        "gone), so the run has ended; continue it with --resume."
    )


def _beat(
    address: str,
    port: int,
    number: int,
    size: int,
    watched: range | tuple[int, ...],
    end: Callable[[str], None],
    done: threading.Event,
) -> None:
    # a second connection: the group's is blocked while a collective waits
    store = StoreConnection(address, port, timedelta(seconds=EVERY))
    # number of a process -> its last sign, and the looks since then
    seen: dict[int, tuple[bytes, int]] = dict.fromkeys(watched, (b"", 0))
    count = 0
    while not done.wait(EVERY):
        count += 1
        signs = store.exchange(f"alive/{number}", str(count), [f"alive/{who}" for who in watched])
        for who, sign in zip(watched, signs, strict=True):
            last, looks = seen[who]
            seen[who] = (sign, 0) if sign is not None and sign != last else (last, looks + 1)
            if last != END.encode() and seen[who][1] >= PATIENCE and not done.is_set():
                end(silent_for(who, size))
    store.exchange(f"alive/{number}", END, [])
