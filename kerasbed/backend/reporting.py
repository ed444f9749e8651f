"""Where kerasbed says what it does: the logger "kerasbed", shown on stderr unless the user has set up logging."""

import logging
import sys


class _UnlessConfigured(logging.Handler):
    """Writes messages to stderr as they are; silent where the root logger has handlers, which then show them."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            sys.stderr.write(self.format(record) + "\n")


LOGGER = logging.getLogger("kerasbed")
if not LOGGER.handlers:
    LOGGER.addHandler(_UnlessConfigured())
if LOGGER.level == logging.NOTSET:
    LOGGER.setLevel(logging.INFO)
