"""The recommender as a web service: a JSON API and a small storefront to look at results."""
