"""A logger that interrupts a training, to test what a resumed one does."""

import signal

from spacy.util import registry

#: Its name in a config, for `[training.logger]`.
STOPPER = "support.Stopper.v1"
#: What the logger was given, an entry for each update of the last training.
UPDATES = []


@registry.loggers(STOPPER)
def create_stopper(stop_at: int = 0):
    """A logger that sends SIGTERM after some update and counts the updates.

    stop_at: number of the update, from 1; 0 for none.
    """

    def setup_printer(nlp, stdout, stderr):
        def log_step(info):
            UPDATES.append(info)
            if len(UPDATES) == stop_at:
                signal.raise_signal(signal.SIGTERM)

        return log_step, lambda: None

    UPDATES.clear()
    return setup_printer
