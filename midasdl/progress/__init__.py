"""What workers tell about their work, and what is made of it: pure, no terminal.

Losing a message loses a picture, never a fact: facts are in the ledger.
"""
