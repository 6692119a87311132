with

baskets as (

    select coalesce(sum(product_count::bigint * basket_count), 0) as item_count
    from {{ ref('int_baskets_sized') }}

),

products as (

    select
        coalesce(sum(basket_count), 0) as item_count,
        count(*) filter (where basket_count < 1) as impossible_products
    from {{ ref('int_products_keyed') }}

)

select
    baskets.item_count as basket_item_count,
    products.item_count as product_basket_count,
    products.impossible_products
from baskets
cross join products
where
    baskets.item_count <> products.item_count
    or products.impossible_products > 0
