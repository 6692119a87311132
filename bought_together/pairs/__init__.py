"""Count the pairs of products in baskets, with compiled code on one machine or a cluster."""
