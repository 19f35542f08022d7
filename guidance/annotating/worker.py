"""Maps in the background: what is looked at comes first, all others follow."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from guidance.annotating.ordering import ImageScores

if TYPE_CHECKING:  # boxes alone should not need nets
    from guidance.annotating.explaining import ImageExplanation

LOG = logging.getLogger(__name__)
KEPT = 256  # maps that stay in memory; scores stay of all


class MapWorker:
    """A thread that explains images by number, one at a time, with `explain`, and keeps what it finds.

    A ValueError or OSError of `explain` is kept in place of the result. `close` ends the thread after the image at hand.
    """

    def __init__(self, count: int, explain: Callable[[int], ImageExplanation]) -> None:
        self._explain = explain
        self._wanted: OrderedDict[int, None] = OrderedDict((number, None) for number in range(count))
        self._found: OrderedDict[int, ImageExplanation | str] = OrderedDict()
        self._version = [0] * count
        self._changed = threading.Condition()
        self._closed = False
        self.scores: dict[int, ImageScores] = {}
        self._thread = threading.Thread(target=self._work, name="maps", daemon=True)
        self._thread.start()

    def get(self, number: int) -> ImageExplanation | str | None:
        """What is known of an image: its maps, why there are none, or None until they are made, which is next."""
        with self._changed:
            found = self._found.get(number)
            if found is None:
                self._ask(number)
            else:
                self._found.move_to_end(number)
            return found

    def forget(self, number: int) -> None:
        """The boxes of an image have changed: its maps are made anew, before all others."""
        with self._changed:
            self._version[number] += 1
            self._found.pop(number, None)
            self._ask(number)

    def _ask(self, number: int) -> None:
        self._wanted[number] = None
        self._wanted.move_to_end(number, last=False)
        self._changed.notify()

    def progress(self) -> tuple[int, int]:
        """How many images have scores, or cannot have any, and how many there are."""
        with self._changed:
            return len(self._version) - len(self._wanted), len(self._version)

    def known_scores(self) -> dict[int, ImageScores]:
        """The scores of the images that have any."""
        with self._changed:
            return dict(self.scores)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                number = next(iter(self._wanted))
                version = self._version[number]
            found: ImageExplanation | str
            try:
                found = self._explain(number)
            except (ValueError, OSError, KeyError) as error:
                found = str(error)
            except Exception as error:  # whatever a net of someone else raises must not end the thread
                LOG.exception("image %d cannot be explained", number)
                found = f"{type(error).__name__}: {error}"
            with self._changed:
                if version != self._version[number]:
                    continue  # its boxes have changed in the meantime
                self._wanted.pop(number, None)
                self._found[number] = found
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)
                if not isinstance(found, str):
                    self.scores[number] = found.scores
