"""Helpers of the whole package; nothing here is public."""
