"""The rivals, each given the same events, the same features and the same order, in one pass: predict, then learn."""
