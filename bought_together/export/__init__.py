"""The export of `dbt build`: when it is published, and how readers get it."""
