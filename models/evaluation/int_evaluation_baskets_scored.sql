with

basket_items as (

    select order_id
    from {{ ref('int_evaluation_basket_items') }}
    where is_test

),

seeds_hit as (

    select
        rule,
        order_id,
        recommendation_rank
    from {{ ref('int_evaluation_seeds_hit') }}

),

rules as (

    select unnest({{ ['best_sellers'] + compared_rules() | list }}) as rule

),

baskets as (

    select
        order_id,
        count(*) as seed_count
    from basket_items
    group by order_id
    having count(*) >= 2

),

hits as (

    select
        rule,
        order_id,
        count(*) as hit_count,
        sum(1 / recommendation_rank) as reciprocal_ranks
    from seeds_hit
    group by
        rule,
        order_id

),

scored as (

    select
        rules.rule,
        baskets.order_id,
        baskets.seed_count,
        coalesce(hits.hit_count, 0) / baskets.seed_count as hit_rate,
        coalesce(hits.reciprocal_ranks, 0) / baskets.seed_count as mean_reciprocal_rank
    from baskets
    cross join rules
    left join hits
        on
            baskets.order_id = hits.order_id
            and rules.rule = hits.rule

)

select * from scored
