"""The room 'reporting'."""
