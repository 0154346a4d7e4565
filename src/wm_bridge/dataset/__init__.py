"""From bags to training data: what was recorded when, brought to one clock, checked and stored in a format others read."""
