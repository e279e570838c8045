"""Keeps an attack going while something is measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.hostile.attacks import Attack, Scene


class Going(threading.Thread):
    """One attack, round after round until `end`."""

    def __init__(self, attack: Attack, scene: Scene) -> None:
        super().__init__(name="attack")
        self.rounds = 0
        self.error: BaseException | None = None
        self.begun = threading.Event()
        self._attack = attack(scene)
        self._over = threading.Event()

    def run(self) -> None:
        try:
            for _ in self._attack:
                self.rounds += 1
                self.begun.set()
                if self._over.is_set():
                    break
        except BaseException as error:
            self.error = error
        finally:
            self.begun.set()
            self._attack.close()  # type: ignore[attr-defined]

    def end(self) -> None:
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


@contextmanager
def going(attack: Attack, scene: Scene) -> Iterator[Going]:
    """Keep the attack going while the block runs."""
    thread = Going(attack, scene)
    thread.start()
    try:
        thread.begun.wait()
        yield thread
    finally:
        thread.end()
