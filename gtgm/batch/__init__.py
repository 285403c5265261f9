"""Batch: papermill executions of the walk-through notebooks, ordered by Snakemake."""
