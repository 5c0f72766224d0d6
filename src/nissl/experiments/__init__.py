"""The curriculum: one file an experiment, a lesson that reads from top to bottom and that runs.

An experiment is a module with a place in the order, `CHAPTER`; a docstring that is its page: title, idea, what to see,
what to try; and `run(report, **options)`, which uses the public library alone and tells the Report what came out.
`nissl.experiments.catalog` finds them, `nissl run` runs them, `nissl.experiments.pages` writes the documentation.
"""
