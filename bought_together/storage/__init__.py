"""Files and tables on a disk or in an object store, and the lake's layout in them."""
