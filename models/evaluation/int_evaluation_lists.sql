{% set rules = compared_rules() %}
{% set wanted = var('recommendations_per_product') %}

with

products as (

    select
        product_number,
        product_key,
        basket_count,
        is_in_catalogue
    from {{ ref('int_evaluation_products_keyed') }}

),

baskets as (

    select count(*) as baskets
    from {{ ref('int_evaluation_baskets_split') }}
    where not is_test

),

-- Not materialized: the two steps below read it one after the other.
directed as not materialized (

    {{ directed_pairs(ref('int_evaluation_pairs_counted')) }}

),

measured as not materialized (

    select
        directed.product_number,
        other_product.product_key as other_product_key,
        directed.copurchase_count as both_baskets,
        product.basket_count as product_baskets,
        other_product.basket_count as other_baskets,
        baskets.baskets
    from directed
    inner join products as product
        on directed.product_number = product.product_number
    inner join products as other_product
        on directed.other_product_number = other_product.product_number
    cross join baskets
    where other_product.is_in_catalogue

),

scored as not materialized (

    select
        product_number,
        other_product_key,
    {% for rule, score in rules.items() %}
    ({{ score }})::double as {{ rule }}_score{{ ',' if not loop.last }}
    {% endfor %}
    from measured

),

-- Sorting all pairs by each rule would take long, and so would numbers that hold score and key. The
-- best scores of a product say which pairs can be in its list, and the place of a score among them
-- is a small number, beside which the key fits.
best_scores as (

    select
        product_number,
    {% for rule in rules %}
    max({{ rule }}_score, {{ wanted }}) as {{ rule }}_scores{{ ',' if not loop.last }}
    {% endfor %}
    from scored
    group by product_number

),

least_scores as (

    select
        product_number,
    {% for rule in rules %}
    {{ rule }}_scores[-1] as {{ rule }}_least{{ ',' if not loop.last }}
    {% endfor %}
    from best_scores

),

candidates as not materialized (

    select scored.*
    from scored
    inner join least_scores
        on scored.product_number = least_scores.product_number
    where
    {% for rule in rules %}
        scored.{{ rule }}_score >= least_scores.{{ rule }}_least{{ ' or' if not loop.last }}
    {% endfor %}

),

best as (

    select
        candidates.product_number,
    {% for rule in rules %}
    min(
        list_position(best_scores.{{ rule }}_scores, candidates.{{ rule }}_score)::bigint
        * 4294967296 + candidates.other_product_key,
        {{ wanted }}
    ) filter (
        where candidates.{{ rule }}_score >= best_scores.{{ rule }}_scores[-1]
    ) as {{ rule }}_keys{{ ',' if not loop.last }}
    {% endfor %}
    from candidates
    inner join best_scores
        on candidates.product_number = best_scores.product_number
    group by candidates.product_number

),

{% for rule in rules %}
{{ rule }}_lists as (

    select
        '{{ rule }}' as rule,
        product_number,
        unnest({{ rule }}_keys) as place
    from best

),

{% endfor %}
best_sellers as (

    select
        product_key,
        product_number
    from products
    where is_in_catalogue and basket_count > 0
    order by product_key
    limit {{ wanted }} + 1

),

listed as (

    {% for rule in rules %}
    select
        rule,
        product_number,
        place & 4294967295 as product_key,
        place
    from {{ rule }}_lists

    union all

    {% endfor %}
    select
        'best_sellers' as rule,
        products.product_number,
        best_sellers.product_key,
        best_sellers.product_key as place
    from products
    inner join best_sellers
        on products.product_number <> best_sellers.product_number

),

ranked as (

    select
        listed.rule,
        listed.product_number,
        recommended_product.product_number as recommended_product_number,
        row_number() over (
            partition by listed.rule, listed.product_number
            order by listed.place asc
        ) as recommendation_rank
    from listed
    inner join products as recommended_product
        on listed.product_key = recommended_product.product_key
    qualify recommendation_rank <= {{ wanted }}

)

select * from ranked
