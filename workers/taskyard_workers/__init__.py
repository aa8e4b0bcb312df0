"""Taskyard's workers: they claim tasks, run processors, and keep the house in order."""
