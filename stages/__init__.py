"""The programs of the pipeline and the parts that they share. Numbers are rounded in the same way
everywhere from here on.
"""

import signal
import sys

from stages.base import arithmetic as arithmetic
from stages.base import machine

# `python -m stages.<name>` has come so far, and imports for seconds what it needs. There Ctrl-C
# should end it, and not be raised as an exception in the midst of a library, which prints it or
# makes another error of it; `run_program` takes it from here.
if sys.argv[:1] == ["-m"]:
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    machine.prepare()
