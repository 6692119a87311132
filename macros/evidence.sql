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
    sign(copurchase_count - expected_count) * {{ log_likelihood_ratio(other_basket_count) }}
        as log_likelihood_ratio
{%- endmacro %}


{#-
    2 * sum(k * ln(k / E)) over the four cells of the table of both products: baskets with both, with
    one of them, with none. E is what a cell holds when the products are independent.
-#}
{% macro log_likelihood_ratio(other_basket_count) %}
    {%- set without, other_without = [
        '(total_basket_count - basket_count)', '(total_basket_count - ' ~ other_basket_count ~ ')'
    ] -%}
    {%- set cells = [
        ('copurchase_count', 'basket_count', other_basket_count),
        ('(basket_count - copurchase_count)', 'basket_count', other_without),
        ('(' ~ other_basket_count ~ ' - copurchase_count)', without, other_basket_count),
        (
            '(' ~ without ~ ' - ' ~ other_basket_count ~ ' + copurchase_count)',
            without,
            other_without
        )
    ] -%}
    2 * (
        {%- for observed, row, column in cells %}
        {{ '+ ' if not loop.first }}case
            when {{ observed }} > 0
                then
                    {{ observed }}
                    * ln({{ observed }}::double * total_basket_count / {{ row }} / {{ column }})
            else 0
        end
        {%- endfor %}
    )
{%- endmacro %}


{#- In words. 6.6349 is the chi-squared distribution's 99th percentile, of one degree of freedom. -#}
{% macro evidence_class() %}
    case
        when copurchase_count = 1 then 'one basket'
        when log_likelihood_ratio > 6.6349 then 'clear'
        else 'weak'
    end
{%- endmacro %}
