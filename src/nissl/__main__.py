"""`python -m nissl` is `nissl`."""

from nissl.cli import main

if __name__ == "__main__":
    main()
