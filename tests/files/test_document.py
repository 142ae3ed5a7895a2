"""The programs in docs/files.md run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/files.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
OUTPUTS = [
    "b'one\\ntwo\\nthree\\n'\n14 bytes copied\none\ntwo\nthree\n['copy.txt']\n",
    "contents\n8\n",
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "output"), list(zip(PROGRAMS, OUTPUTS, strict=True)))
def test_the_program_runs(tmp_path, program, output):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (output, "")
