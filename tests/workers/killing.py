"""A cluster whose first worker is killed."""

import os
import signal

from stages.workers.cluster import in_any_order


def killing_one(killed):
    """Return an `in_any_order` that kills a worker after the first item, and notes its process.

    The worker's nanny starts another one.
    """

    def kill_one(client, *arguments):
        for result in in_any_order(client, *arguments):
            if not killed:
                killed.extend(client.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)
            yield result

    return kill_one
