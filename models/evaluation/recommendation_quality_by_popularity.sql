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
        basket_items.product_number,
        count(*) as seed_count
    from basket_items
    semi join baskets
        on basket_items.order_id = baskets.order_id
    group by basket_items.product_number

),

hits as (

    select
        rule,
        product_number,
        count(*) as hit_count
    from seeds_hit
    group by
        rule,
        product_number

),

grouped as (

    select
        seeds.product_number,
        seeds.seed_count,
        products.basket_count,
        (ntile(10) over (order by products.product_key asc))::integer as popularity_decile
    from seeds
    inner join products
        on seeds.product_number = products.product_number

),

quality as (

    select
        rules.rule,
        grouped.popularity_decile,
        count(*) as products,
        sum(grouped.seed_count)::bigint as seeds,
        min(grouped.basket_count) as least_basket_count,
        max(grouped.basket_count) as most_basket_count,
        coalesce(sum(hits.hit_count), 0)::bigint / sum(grouped.seed_count)::bigint as hit_rate
    from grouped
    cross join rules
    left join hits
        on
            grouped.product_number = hits.product_number
            and rules.rule = hits.rule
    group by
        rules.rule,
        grouped.popularity_decile

)

select * from quality
