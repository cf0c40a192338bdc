"""`python -m eigenview` is the command `eigenview`."""

from eigenview.cli import main

if __name__ == "__main__":
    main()
