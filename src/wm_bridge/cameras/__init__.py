"""Cameras: one interface (``base``) and its drivers."""
