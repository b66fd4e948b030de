"""`python -m stillmark`: what launchers of several processes start (`accelerate launch -m stillmark ...`)."""

from stillmark.cli import main

if __name__ == "__main__":
    main()
