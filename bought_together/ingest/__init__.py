"""From raw files to the lake: validate, flatten, and set bad records aside with a reason."""
