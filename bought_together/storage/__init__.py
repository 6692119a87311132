"""Files on a disk or in an object store, and the layout of the lake."""
