"""The products most often bought together: from a shop's raw files to a table and its readers."""
