with

-- Not materialized: two scans with a filter each take less than one copy.
line_items as not materialized (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_kept') }}
    where change >= 0

),

products as (

    select
        product_id,
        product_number,
        basket_count
    from {{ ref('int_products_keyed') }}

),

sampled_products as (

    select
        product_id,
        product_number,
        basket_count
    from products
    -- What this build has counted from scratch needs no recount.
    where exists (select 1 from {{ ref('stg_state_products') }})
    -- Other products in each run.
    order by
        hash(
            product_id
            || (select mounted_run.run from {{ source('lake', 'mounted_run') }} as mounted_run)
        ),
        product_id
    limit 5

),

left_item as (

    select distinct
        line_items.order_id,
        line_items.product_id
    from line_items
    semi join sampled_products
        on line_items.product_id = sampled_products.product_id

),

right_item as (

    select distinct
        line_items.order_id,
        line_items.product_id
    from line_items
    semi join left_item
        on line_items.order_id = left_item.order_id

),

-- A product with itself: the number of its baskets.
expected as (

    select
        left_item.product_id,
        right_item.product_id as other_product_id,
        count(*) as copurchase_count
    from left_item
    inner join right_item
        on left_item.order_id = right_item.order_id
    group by
        left_item.product_id,
        right_item.product_id

),

directed as (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

found as (

    select
        sampled_products.product_id,
        other_product.product_id as other_product_id,
        directed.copurchase_count
    from directed
    inner join sampled_products
        on directed.product_number = sampled_products.product_number
    inner join products as other_product
        on directed.other_product_number = other_product.product_number

    union all

    select
        product_id,
        product_id as other_product_id,
        basket_count as copurchase_count
    from sampled_products

)

{{ rows_that_differ('expected', 'found') }}
