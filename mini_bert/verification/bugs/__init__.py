"""The bug zoo: real bugs of transformer code, each a small edit of ours that the tests have to catch.

Nothing here imports the code under test: a bug has to be injected before that is loaded.
"""
