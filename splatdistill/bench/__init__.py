"""Prompts x methods x seeds as independent runs, and what their numbers say together.

plan.py names the jobs, work.py does one of them (as a process of its own), local.py and cluster.py do all, judge.py
measures them, and tables.py, curves.py, sheet.py and report.py say what came of it.
"""
