"""The ledger: the only shared state and the only truth.

::

    library, engine   which SQLite, which journal; transactions, and what its errors mean
    schema, views     tables with their comments; what people query
    migrate           bringing an older ledger up to date
    ledger            Ledger: opening, transactions, settings
    merge, load       a manifest into the ledger
    first_load        the same where there is nothing yet; new_ledger makes the file for it
    folders           paths that would have to be a file and a folder
    tasks             claim, finish, postpone, fail, release, take back, requeue
    verification      what verify reads and records
    adoption          what adopt and run --source ask
    runs              runs, workers, who is alive
    overview          counts, failures, does everything add up
    reference         docs/ledger.md, made from the schema and the views
    statements        every statement by name
"""
