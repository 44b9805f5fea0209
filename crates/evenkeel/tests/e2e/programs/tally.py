"""What a client has met so far, told again and again: one line of JSON on standard output each time.

It goes on until its standard input ends, and then says everything once more.
"""
import json
import sys
import threading
import time

# Time between two lines.
EVERY = 0.1
# Failures that are told; all are counted.
TOLD = 20


class Tally:
    def __init__(self):
        self._lock = threading.Lock()
        self._answers = {}
        self._failures = []
        self._cuts = []
        self._failed = 0
        self._began = time.monotonic()
        self.stopping = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self._teller = threading.Thread(target=self._tell, daemon=True)
        self._teller.start()

    def good(self, kind, version, count=1):
        """So many right answers of this kind, by this version."""
        with self._lock:
            by = self._answers.setdefault(kind, {})
            by[version] = by.get(version, 0) + count

    def bad(self, kind, cause):
        """Something that must not happen."""
        with self._lock:
            self._failed += 1
            if len(self._failures) < TOLD:
                at = round(time.monotonic() - self._began, 3)
                self._failures.append(f"{at} s, {kind}: {cause}")

    def cut(self, kind, version):
        """A connection that lives long was ended from outside, as is allowed at its time."""
        with self._lock:
            self._cuts.append([kind, version, time.time()])

    def end(self):
        """Says everything for the last time."""
        self.stopping.set()
        self._teller.join()
        self._say(True)

    def _listen(self):
        sys.stdin.read()
        self.stopping.set()

    def _tell(self):
        while not self.stopping.wait(EVERY):
            self._say(False)

    def _say(self, done):
        with self._lock:
            print(json.dumps({
                "answers": self._answers,
                "failed": self._failed,
                "failures": self._failures,
                "cuts": self._cuts,
                "done": done,
            }), flush=True)
