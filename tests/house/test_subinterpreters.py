"""Another interpreter of the same process is refused with an error that says so."""

from __future__ import annotations

from .programs import python

# The module has had three names; in a child, since what it makes may outlive a failure.
TRY = """
import ioxide
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
try:
    import ioxide
except ImportError as error:
    print("refused:", error, flush=True)
'''
for options in ({}, {"isolated": False}, "legacy"):
    try:
        if options == "legacy":
            other = interpreters.create("legacy")
        else:
            other = interpreters.create(**options)
    except (TypeError, ValueError):
        continue
    interpreters.run_string(other, code)
    interpreters.destroy(other)
async def still_works():
    await ioxide.sleep(0)
    return "works"
print(ioxide.run(still_works()))
"""


def test_subinterpreters_are_refused_and_the_main_one_goes_on(tmp_path):
    status, out, err = python("-W", "ignore", "-c", TRY, cwd=tmp_path)
    assert (status, err) == (0, "")
    *refused, last = out.splitlines()
    assert last == "works"
    assert refused
    assert all(line.startswith("refused:") and "subinterpreters" in line for line in refused)
