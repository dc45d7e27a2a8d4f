"""Files that nobody should be able to open: made here for the experiments and the tests, never found in the wild."""
