"""The products most often bought together, from raw exports to a table and its readers."""
