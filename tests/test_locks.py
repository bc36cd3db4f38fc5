"""Locks after an interrupt."""

from __future__ import annotations

import random
import signal
import threading

import odograph


def test_ctrl_c_while_an_agent_records_leaves_no_lock_held(store: odograph.Store) -> None:
    """The thread that syncs, and all others that record, would wait for ever. Python 3.14 leaves one lock of thirty held."""
    lock = store.backend.journal.lock
    free: list[bool] = []

    def look() -> None:
        free.append(lock.acquire(timeout=20))
        if free[-1]:
            lock.release()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with store.record(task=1) as run:
            for _ in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.002))
                    while True:
                        run.note("x")
                except KeyboardInterrupt:
                    thread = threading.Thread(target=look)
                    thread.start()
                    thread.join()
                    assert free[-1]
    finally:
        signal.signal(signal.SIGALRM, before)
