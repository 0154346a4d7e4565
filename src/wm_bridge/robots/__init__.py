"""Robots: what they are (``spec``) and how they are driven (``base`` and its drivers)."""
