"""`python -m agent` and the program `xmod-agent`."""

from agent.cli import main

if __name__ == "__main__":
    main()
