"""Prompts x methods x seeds as independent runs, and what their numbers say together.

options.py and preset.py say what is wished, settle.py what is to be done, and plan.py names the jobs. run.py has them made, by
local.py or cluster.py; job_runner.py does one of them, as a process of its own. conclude.py measures them (measure_jobs.py) and
writes tables, curves, the sheet and the report.
"""
