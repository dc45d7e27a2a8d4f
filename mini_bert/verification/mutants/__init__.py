"""Would the tests notice? Small errors put into every file of the mathematics, one at a time; the share that is caught.

Reading order: `source_text`, `left_out`, `operators`, `mutant`, `sample`, `tests_of`, `trial`, `hunt`, `reasons`,
`report`. Nothing here imports the code under test. `python -m mini_bert.verification.mutants` runs it.
"""
