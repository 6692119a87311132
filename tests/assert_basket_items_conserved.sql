with

basket_items as (

    select count(*) as item_count
    from {{ ref('int_basket_items') }}

),

products as (

    select coalesce(sum(basket_count), 0) as item_count
    from {{ ref('int_products_keyed') }}

)

select
    basket_items.item_count as basket_item_count,
    products.item_count as product_basket_count
from basket_items
cross join products
where basket_items.item_count <> products.item_count
