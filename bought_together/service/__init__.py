"""The web service: a JSON API, and a small storefront that shows the results."""
