"""`python -m clara.cli`, as torchrun needs it."""

from clara.cli import main

if __name__ == "__main__":
    main()
