"""The search: configurations, trials, the study and its storage."""
