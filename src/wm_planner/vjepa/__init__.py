"""V-JEPA 2-AC: loading the published weights, exact cached rollouts, and training predictors of the same kind."""
