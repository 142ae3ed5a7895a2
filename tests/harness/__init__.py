"""Tools of the tests; no tests."""
