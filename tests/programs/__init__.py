"""Real programs, with real libraries and servers, run as a user would run them."""
