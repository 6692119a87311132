"""Count which products share baskets, with compiled code on one machine or a cluster."""
