"""The report on a build: one HTML file beside it, for people, with charts and without script."""
