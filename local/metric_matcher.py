"""A process that searches lines with regular expressions: one that takes for ever ends this process and no other.

It is run as a file, by itself and without any package, so that it starts quickly. The first line that it reads is a
JSON list of expressions. For each further one, a JSON list of a line to search and the numbers of the expressions to
search it with, it writes as many lines: what the first group has found, or null.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Final

LIMIT: Final = 2.0  # seconds of this process's own time for an expression on a line, however busy the machine is


def main() -> None:
    """Answer until there are no more lines; who asked may be gone by then."""
    expressions = [re.compile(text) for text in json.loads(sys.stdin.readline())]
    for request in sys.stdin:
        line, numbers = json.loads(request)
        for number in numbers:
            signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)  # the system ends us, as no handler runs during a search
            match = expressions[number].search(line)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            sys.stdout.write(json.dumps(match.group(1) if match and match.re.groups else None) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
