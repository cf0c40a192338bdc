"""Side-by-side measurements: ratios against the usual libraries, in one process and one run."""
