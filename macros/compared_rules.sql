{% macro compared_rules() %}
    {#-
        The rules that order a list, each as the score of a pair: of the baskets that are counted
        (baskets), those with the product (product_baskets), with the other (other_baskets) and with
        both (both_baskets). Where the score is null, the other product is not in the list. Scores
        that are equal must be equal numbers, so a rule has one division of whole numbers at most.
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
    {#- Dunning's G2 of the four cells of a pair, up to a factor; rounded, since logarithms are not exact. -#}
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
