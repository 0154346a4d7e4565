"""One module per process: parameters, a core, subscriptions, publishers."""
