"""A run's page: what a report shows of one or several runs, as plain data, and the file it is written to."""

from evomerge.search.page.data import page_data

__all__ = ["page_data"]
