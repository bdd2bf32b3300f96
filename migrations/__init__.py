"""Schema changes of the ledger, one file a change, shipped in the wheel as `midasdl.migrations`."""
