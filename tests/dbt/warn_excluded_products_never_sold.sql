{{ config(severity = 'warn') }}

select excluded_products.product_id
from {{ ref('excluded_products') }} as excluded_products
anti join {{ ref('stg_line_items') }} as line_items
    on excluded_products.product_id = line_items.product_id
