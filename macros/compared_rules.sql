{% macro compared_rules() %}
    {#-
        The rules that order a list, each as the score of a pair, in counts of training baskets:
        with both products, with the product, with the other, and all. Where a score is null, the
        other product is not in the list. Equal scores must be equal numbers, so that ties are
        seen: whole numbers, one division of them, or rounded, as logarithms are not exact. The
        squared cosine has the cosine's order.
    -#}
    {{- return({
        'count': 'both_baskets',
        'shop_settings':
            'case when both_baskets >= ' ~ var('min_copurchase_count', 1) ~ ' then both_baskets end',
        'leverage': 'both_baskets * baskets - product_baskets * other_baskets',
        'cosine': 'both_baskets * both_baskets / (product_baskets * other_baskets)',
        'jaccard': 'both_baskets / (product_baskets + other_baskets - both_baskets)',
        'llr': 'round(' ~ log_likelihood_ratio(
            'both_baskets', 'product_baskets', 'other_baskets', 'baskets'
        ) ~ ' / 2, 6)',
        'lift': 'both_baskets * baskets / (product_baskets * other_baskets)'
    }) -}}
{% endmacro %}
