{{ config(severity = 'warn') }}

with

products as (

    select
        product_id,
        basket_count,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

weighed as (

    select
        product_id,
        basket_count,
        is_in_catalogue,
        sum(basket_count) filter (where not is_in_catalogue) over ()
        / sum(basket_count) over () as unlisted_share
    from products

)

select
    product_id,
    basket_count
from weighed
where
    not is_in_catalogue
    and unlisted_share > {{ var('unlisted_share_warned') }}
