"""From raw exports to the lake: validate, flatten, set aside what cannot be used."""
