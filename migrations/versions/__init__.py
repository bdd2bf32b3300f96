"""The migrations in their order; the file name starts with the revision."""
