"""Being a good guest: when a request may start, over everything that shares the ledger.

`limiter` and `backoff` decide, as pure functions; `gate` acts on their decisions through one row of the ledger for
each host and one permit row for each request in flight. Rows cannot be lost to ``kill -9`` as a lock can, they hold
across processes and runs, and anybody can look at them in SQL.
"""
