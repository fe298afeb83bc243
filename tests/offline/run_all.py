"""Run what users run in a repository without results, in a namespace without a network.

It is a separate program (`python -m tests.offline.run_all`) so that the fork server
(tests/fork_server.py) is in that namespace, too.
"""

import socket

from tests.repositories import dvc, run_program, stages_run


def main() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    # All stages but `demo`, which only draws.
    experiment = ("exp", "run", "-n", "youden", "-S", "calibrate.threshold_rule=youden")
    assert "train" in stages_run(dvc(*experiment, "--force", "--downstream", "manifest"))
    for program, *arguments in (
        ("predict", "data/demo", "--html", "page.html", "--per-slide", "slides.csv"),
        ("compare", "--by", "calibrate.threshold_rule"),
        ("report", "HEAD"),
    ):
        code, _, error = run_program(program, *arguments)
        assert code == 0, error
    for name in ("core.analytics", "core.check_update"):
        print(name, dvc("config", name).strip())


if __name__ == "__main__":
    main()
