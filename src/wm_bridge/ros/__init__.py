"""What the nodes share: messages, QoS, parameters, diagnostics, start and stop."""
