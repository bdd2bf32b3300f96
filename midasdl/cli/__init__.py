"""The command line: one module for each command, with its options, its help and what it does.

Only this room reads the environment, `.env` and configuration files, writes to the terminal, and handles signals.
"""
