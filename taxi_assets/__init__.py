"""New York's taxi trips, month by month, into a warehouse: a Dagster asset graph.

Empty on purpose: importing the package costs nothing, each module imports what it needs.
"""
