"""`python -m suite`: the same as the command `suite`."""

from suite.cli import main

if __name__ == "__main__":
    main()
