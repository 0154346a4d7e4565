"""How far the planner may believe its own model: scores of each planning step, calibrated on whole episodes."""
