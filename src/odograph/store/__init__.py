"""The journal, the catalog and the reader: what a store is made of on disk. The `Store` that users hold is in `api`."""
