"""Points that are computed from others, before the log: expressions, checked and evaluated over columns.

`expression` and `evaluator`: the text and what it is evaluated by. `check`: what is wrong before anything runs.
`derived`: at run time.
"""
