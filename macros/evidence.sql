{#-
    How far to trust a pair, from four counts of baskets: all (total_basket_count), those with the
    product (basket_count), with the other product, and with both (copurchase_count). A select that
    has these columns gets the measures in this order. A product in no basket has no share of them.
-#}
{% macro evidence_measures(other_basket_count) %}
    copurchase_count / total_basket_count as support,
    copurchase_count / nullif(basket_count, 0) as confidence,
    basket_count::double * {{ other_basket_count }} / total_basket_count as expected_count,
    copurchase_count / nullif(expected_count, 0) as lift,
    sign(copurchase_count - expected_count) * {{ log_likelihood_ratio(
        'copurchase_count', 'basket_count', other_basket_count, 'total_basket_count'
    ) }} as log_likelihood_ratio
{%- endmacro %}


{#-
    2 * sum(k * ln(k / E)) over the four cells of the table of two products, from the numbers of
    baskets with both, with one, with the other, and of all. E is what a cell holds when the
    products are independent: the product of its row and its column, divided by all. Nothing is
    observed in a cell of 0, whose term is 0.
-#}
{% macro log_likelihood_ratio(both, one, other, all) %}
    {%- set cells = [
        (both, one, other),
        (one ~ ' - ' ~ both, one, all ~ ' - ' ~ other),
        (other ~ ' - ' ~ both, all ~ ' - ' ~ one, other),
        (
            all ~ ' - ' ~ one ~ ' - ' ~ other ~ ' + ' ~ both,
            all ~ ' - ' ~ one,
            all ~ ' - ' ~ other
        )
    ] -%}
    {%- set terms = [] -%}
    {%- for cell, row, column in cells -%}
        {%- do terms.append(
            '(' ~ cell ~ ') * ln(greatest(' ~ cell ~ ', 1)::double * ' ~ all
            ~ ' / greatest((' ~ row ~ ')::double * (' ~ column ~ '), 1))'
        ) -%}
    {%- endfor -%}
    2 * ({{ terms | join(' + ') }})
{%- endmacro %}


{#- 6.6349 is the 99th percentile of the chi-squared distribution with one degree of freedom. -#}
{% macro evidence_class() %}
    case
        when copurchase_count = 1 then 'one basket'
        when log_likelihood_ratio > 6.6349 then 'clear'
        else 'weak'
    end
{%- endmacro %}
