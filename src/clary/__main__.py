"""``python -m clary`` is the ``clary`` command."""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports to come

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
