with

baskets as (

    select coalesce(sum(basket_count), 0)::bigint as basket_count
    from {{ ref('int_baskets_sized') }}

),

oversized_baskets as (

    select count(*) as oversized_basket_count
    from {{ ref('int_baskets_oversized') }}
    where change >= 0

),

-- A purchase is a product in a basket.
products as (

    select
        coalesce(sum(basket_count), 0)::bigint as purchase_count,
        coalesce(sum(basket_count) filter (where not is_in_catalogue), 0)::bigint
            as unlisted_purchase_count,
        count(*) filter (where not is_in_catalogue) as unlisted_product_count
    from {{ ref('int_products_keyed') }}

),

line_items as (

    select max(ordered_at) as newest_ordered_at
    from {{ ref('stg_line_items') }}

),

orders as (

    select
        count(*) as order_count,
        count(*) filter (where is_cancelled) as cancelled_order_count
    from {{ ref('int_orders_resolved') }}
    where change >= 0

),

superseded_orders as (

    select count(distinct order_key) as superseded_order_count
    from {{ ref('int_orders_superseded') }}
    where change >= 0

),

published_build as (

    select
        build,
        basket_count,
        newest_ordered_at
    from {{ ref('stg_published_build') }}

),

measured as (

    select
        published_build.build as published_build,
        baskets.basket_count,
        published_build.basket_count as published_basket_count,
        oversized_baskets.oversized_basket_count,
        orders.order_count,
        orders.cancelled_order_count,
        superseded_orders.superseded_order_count,
        products.purchase_count,
        products.unlisted_purchase_count,
        products.unlisted_product_count,
        line_items.newest_ordered_at,
        published_build.newest_ordered_at as published_newest_ordered_at
    from baskets
    cross join oversized_baskets
    cross join orders
    cross join superseded_orders
    cross join products
    cross join line_items
    left join published_build
        on true

)

select * from measured
