"""Memory of a running job."""

import threading


class Watch:
    """Samples the anonymous memory of this process while a job runs."""

    def __init__(self):
        self.peak = anonymous()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self):
        while not self._end.wait(0.002):
            self.peak = max(self.peak, anonymous())

    def stop(self):
        """Return the peak in MiB."""
        self._end.set()
        self._thread.join()
        return self.peak / 1024


def anonymous():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
