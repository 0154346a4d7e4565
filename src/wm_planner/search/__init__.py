"""Optimisers of action sequences behind one protocol. They know nothing of models: they ask for costs."""
