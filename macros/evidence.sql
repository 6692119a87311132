{#-
    How far to trust a pair, from four counts of baskets: all (total_basket_count), those with the
    product (basket_count), with the other product, and with both (copurchase_count). A select that
    has these columns gets the measures in this order. A product in no basket has no share of them.
-#}
{% macro evidence_measures(other_basket_count) %}
    {%- set other = other_basket_count -%}
    {%- set without = 'total_basket_count - basket_count' -%}
    {%- set without_other = 'total_basket_count - ' ~ other -%}
    {%- set neither = without ~ ' - ' ~ other ~ ' + copurchase_count' -%}
    copurchase_count / total_basket_count as support,
    copurchase_count / nullif(basket_count, 0) as confidence,
    basket_count::double * {{ other }} / total_basket_count as expected_count,
    copurchase_count / nullif(expected_count, 0) as lift,
    sign(copurchase_count - expected_count) * 2 * (
        {{ chance_term('copurchase_count', 'basket_count', other) }}
        + {{ chance_term('basket_count - copurchase_count', 'basket_count', without_other) }}
        + {{ chance_term(other ~ ' - copurchase_count', without, other) }}
        + {{ chance_term(neither, without, without_other) }}
    ) as log_likelihood_ratio
{%- endmacro %}


{#-
    k * ln(k / E): a cell of the table of two products, with k baskets where its row and its column
    have so many; E is what it holds when the products are independent.
-#}
{% macro chance_term(cell, row_total, column_total) -%}
    case
        when ({{ cell }}) > 0
            then
                ({{ cell }})
                * ln(
                    ({{ cell }})::double * total_basket_count
                    / ({{ row_total }}) / ({{ column_total }})
                )
        else 0
    end
{%- endmacro %}


{#- 6.6349 is the 99th percentile of the chi-squared distribution with one degree of freedom. -#}
{% macro evidence_class() %}
    case
        when copurchase_count = 1 then 'one basket'
        when log_likelihood_ratio > 6.6349 then 'clear'
        else 'weak'
    end
{%- endmacro %}
