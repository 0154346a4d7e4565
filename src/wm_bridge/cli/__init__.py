"""The `wm` command. `bootstrap` and what it imports use the standard library only."""
