{{ config(severity = 'warn') }}

select
    product_id,
    basket_count
from {{ ref('int_products_keyed') }}
where not is_in_catalogue
