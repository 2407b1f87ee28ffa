"""Validation of the judges.

``agreement``     agreement of two judges, or of a judge and a person, on the same traces
``perturbation``  effect of known errors of the truth on the metrics
``injection``     robustness to prompt injection, and accuracy without it
``rating_sheet``  a page on which people rate mentions, blind to every verdict
"""
