{% macro compared_rules() %}
    {#-
        The rules that order a list, each as the score of a pair, in counts of training baskets:
        with both products, with the product, with the other, and all. Where a score is null, the
        other product is not in the list. Equal scores must be equal numbers, so that ties are
        seen: whole numbers, or one division of them. The squared cosine has the cosine's order.
    -#}
    {{- return({
        'count': 'both_baskets',
        'leverage': 'both_baskets * baskets - product_baskets * other_baskets',
        'cosine': 'both_baskets * both_baskets / (product_baskets * other_baskets)',
        'jaccard': 'both_baskets / (product_baskets + other_baskets - both_baskets)',
        'llr': log_likelihood_ratio(),
        'lift': 'both_baskets * baskets / (product_baskets * other_baskets)'
    }) -}}
{% endmacro %}


{% macro log_likelihood_ratio() %}
    {#- Half of Dunning's G2 of the four cells of a pair; rounded, as logarithms are not exact. -#}
    {%- set cells = [
        ('both_baskets', 'product_baskets', 'other_baskets'),
        ('product_baskets - both_baskets', 'product_baskets', 'baskets - other_baskets'),
        ('other_baskets - both_baskets', 'baskets - product_baskets', 'other_baskets'),
        (
            'baskets - product_baskets - other_baskets + both_baskets',
            'baskets - product_baskets',
            'baskets - other_baskets'
        )
    ] -%}
    {%- set terms = [] -%}
    {%- for cell, row, column in cells -%}
        {%- do terms.append(
            '(' ~ cell ~ ') * ln(greatest(' ~ cell ~ ', 1) * baskets / greatest((' ~ row ~ ') * ('
            ~ column ~ '), 1))'
        ) -%}
    {%- endfor -%}
    {{- return('round(' ~ terms | join(' + ') ~ ', 6)') -}}
{% endmacro %}
