"""`python -m ioxide`: runs a program as `python` would, on ioxide."""

from ioxide._launch import main

if __name__ == "__main__":
    main()
