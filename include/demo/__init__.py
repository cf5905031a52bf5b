"""A small real data set, and the script that lays out a workspace and drives the demo."""
