"""Who reads: one while it keeps up, more when requests wait, and nobody is forgotten."""

import os
import threading
from collections.abc import Callable

import trio

from cuse_crypto.frontend.crew import Crew
from tests.conftest import eventually


class Place:
    """A crew whose workers wait for a byte, or rest."""

    def __init__(self, limit: int) -> None:
        self.reading, self.writing = os.pipe()
        self.crew = Crew(self.reading, limit, self.new_worker)
        self.served: list[int] = []
        self.rested = 0
        self.busy = threading.Event()
        self.look: list[Callable[[], None]] = []
        self.thread = threading.Thread(target=trio.run, args=[self.crew.run])
        self.thread.start()
        eventually(lambda: len(self.crew.readers) == 1)

    def new_worker(self) -> Callable[[], None]:
        bed = threading.Lock()
        bed.acquire()
        number = len(self.look)
        self.look.append(self.crew.watcher())

        def run() -> None:
            awake = True
            while awake:
                self.crew.readers.append(None)
                said = os.read(self.reading, 1)
                self.crew.readers.pop()
                if not said:
                    break
                self.served.append(number)
                if said == b"b":
                    self.busy.wait(10)
                if said == b"r":
                    self.rested += 1
                    awake = self.crew.rest(bed)
            self.crew.dismiss()

        return run

    def say(self, word: bytes) -> None:
        before = len(self.served)
        os.write(self.writing, word)
        eventually(lambda: len(self.served) == before + 1)

    def end(self) -> None:
        os.close(self.writing)
        self.thread.join(10)
        assert not self.thread.is_alive()
        os.close(self.reading)


def test_who_rests_is_called() -> None:
    place = Place(limit=2)
    place.say(b"r")
    eventually(lambda: not place.crew.readers)
    place.crew.ensure()
    eventually(lambda: len(place.crew.readers) == 1)
    place.say(b"x")
    assert place.crew.size == 1
    place.end()


def test_another_one_is_hired_up_to_the_limit() -> None:
    place = Place(limit=2)
    place.say(b"b")
    place.crew.call()
    eventually(lambda: len(place.crew.readers) == 1)
    place.say(b"b")
    place.crew.call()
    assert place.crew.size == 2
    place.busy.set()
    place.end()


def test_a_request_that_waits_is_seen() -> None:
    place = Place(limit=3)
    place.say(b"r")
    eventually(lambda: place.rested == 1 and not place.crew.readers)
    os.write(place.writing, b"x")
    place.look[0]()
    eventually(lambda: len(place.served) == 2)
    place.end()


def test_the_end_wakes_everybody() -> None:
    place = Place(limit=2)
    place.say(b"r")
    place.crew.ensure()
    eventually(lambda: len(place.crew.readers) == 1)
    place.end()
