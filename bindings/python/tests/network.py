"""Real servers for the tests: `delta demo --serve` starts a sync server and three relays on loopback."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import delta

#: Where cargo puts programs: DELTA_PROGRAMS, as `cargo xtask test` sets it.
PROGRAMS = Path(os.environ.get("DELTA_PROGRAMS", Path(__file__).parents[3] / "target/debug"))


class Network:
    """One sync server and three relays; they end with it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        command = [PROGRAMS / "delta", "demo", "--serve", "--json", "--keep", Path(self.folder.name) / "network"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = json.loads(self.child.stdout.readline())

    def hops(self) -> delta.RelayHops:
        def read(name: str) -> str:
            return Path(self.facts[name]).read_text()

        return delta.RelayHops.DIRECTORY(
            list=read("directory"),
            records=read("records"),
            trusted_keys=[bytes.fromhex(self.facts["trust"])],
            threshold=1,
        )

    @property
    def sync_url(self) -> str:
        return self.facts["sync"]

    def halt(self) -> None:
        """All of them hang: connections are accepted by the system, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
        self.folder.cleanup()

    def _signal(self, number: int) -> None:
        for pid in self.facts["pids"].values():
            os.kill(pid, number)


def other_process(program: str, *arguments: str) -> str:
    """What a Python program prints that runs in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
