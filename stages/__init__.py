"""The programs of the pipeline and their shared parts. The import fixes how numbers are rounded.

It changes nothing in a process that imports `glomeruli`, which belongs to another program.
"""

import signal
import sys

from stages.base import arithmetic as arithmetic
from stages.base import machine, packages

# `python -m stages.<name>` imports libraries for seconds after this. Ctrl-C then ends the process
# instead of raising an exception inside a library, until `run_program` handles it.
if sys.argv[:1] == ["-m"] and not arithmetic.hosted:
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    machine.prepare()
    sys.excepthook = packages.explain_missing
