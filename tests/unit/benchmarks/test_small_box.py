"""The small box: what a process is told of its storage, and that nothing of the box is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.rig.small_box import MEMORY_BYTES, small_box

ASK = """
import sys
from pathlib import Path
from gateway.log import kind_of
print(kind_of(Path(sys.argv[1])))
"""


def test_a_process_takes_its_storage_for_an_emmc(tmp_path: Path) -> None:
    with small_box(tmp_path) as box:
        command = [*box.before, sys.executable, "-c", ASK, str(tmp_path)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        if box.storage == "eMMC":
            assert found == "emmc"
        assert f"{MEMORY_BYTES:,}" in box.memory
        left = subprocess.Popen([*box.before, "sleep", "60"])
    if "group" in box.memory:
        assert left.wait(20) != 0, "what was left in the group is ended with it"
    else:
        left.kill()
        left.wait(20)
