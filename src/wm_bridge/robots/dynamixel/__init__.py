"""Dynamixel servos: register tables, a bus on the real SDK, a robot made of them, and a simulated bus."""
