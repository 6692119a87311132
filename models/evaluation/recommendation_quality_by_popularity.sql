with

basket_items as (

    select
        order_id,
        product_number
    from {{ ref('int_evaluation_basket_items') }}
    where is_test

),

products as (

    select
        product_number,
        product_key,
        basket_count
    from {{ ref('int_evaluation_products_keyed') }}

),

seeds_hit as (

    select
        rule,
        order_id,
        product_number
    from {{ ref('int_evaluation_seeds_hit') }}

),

rules as (

    select unnest({{ ['best_sellers'] + compared_rules() | list }}) as rule

),

baskets as (

    select order_id
    from basket_items
    group by order_id
    having count(*) >= 2

),

seeds as (

    select
        basket_items.order_id,
        basket_items.product_number
    from basket_items
    semi join baskets
        on basket_items.order_id = baskets.order_id

),

seed_products as (

    select
        product_number,
        basket_count,
        (ntile(10) over (order by product_key asc))::integer as popularity_decile
    from products
    where product_number in (select seeds.product_number from seeds)

),

seeds_grouped as (

    select
        seeds.order_id,
        seeds.product_number,
        seed_products.popularity_decile
    from seeds
    inner join seed_products
        on seeds.product_number = seed_products.product_number

),

baskets_sized as (

    select
        order_id,
        popularity_decile,
        count(*) as seed_count
    from seeds_grouped
    group by
        order_id,
        popularity_decile

),

baskets_hit as (

    select
        seeds_hit.rule,
        seeds_hit.order_id,
        seeds_grouped.popularity_decile,
        count(*) as hit_count
    from seeds_hit
    inner join seeds_grouped
        on
            seeds_hit.order_id = seeds_grouped.order_id
            and seeds_hit.product_number = seeds_grouped.product_number
    group by
        seeds_hit.rule,
        seeds_hit.order_id,
        seeds_grouped.popularity_decile

),

-- As in recommendation_quality, each basket has one voice, however many of the seeds it holds.
hits as (

    select
        baskets_hit.rule,
        baskets_hit.popularity_decile,
        sum(baskets_hit.hit_count / baskets_sized.seed_count) as hit_rates
    from baskets_hit
    inner join baskets_sized
        on
            baskets_hit.order_id = baskets_sized.order_id
            and baskets_hit.popularity_decile = baskets_sized.popularity_decile
    group by
        baskets_hit.rule,
        baskets_hit.popularity_decile

),

deciles as (

    select
        popularity_decile,
        count(*) as products,
        min(basket_count) as least_basket_count,
        max(basket_count) as most_basket_count
    from seed_products
    group by popularity_decile

),

decile_baskets as (

    select
        popularity_decile,
        count(*) as baskets,
        sum(seed_count)::bigint as seeds
    from baskets_sized
    group by popularity_decile

),

quality as (

    select
        rules.rule,
        deciles.popularity_decile,
        deciles.products,
        deciles.least_basket_count,
        deciles.most_basket_count,
        decile_baskets.baskets,
        decile_baskets.seeds,
        coalesce(hits.hit_rates, 0) / decile_baskets.baskets as hit_rate
    from deciles
    inner join decile_baskets
        on deciles.popularity_decile = decile_baskets.popularity_decile
    cross join rules
    left join hits
        on
            deciles.popularity_decile = hits.popularity_decile
            and rules.rule = hits.rule

)

select * from quality
