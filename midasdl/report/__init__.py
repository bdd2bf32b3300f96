"""One HTML file that shows what a ledger knows: coverage, what is missing, speed, politeness."""
