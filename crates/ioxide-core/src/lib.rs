//! The parts of an event loop that know nothing of Python.
