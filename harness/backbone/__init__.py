"""The frozen multi-task face network (MTL-DAN)."""
