"""How far a judge can be trusted.

``agreement``     two judges, or a judge and a person, on the same traces
``perturbation``  what a truth with known errors does to the metrics
``injection``     robustness against orders hidden in what a judge reads, and accuracy without them
``rating_sheet``  a page on which people rate mentions without seeing any verdict
"""
