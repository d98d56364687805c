"""Shared code of the sections."""
